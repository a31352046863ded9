"""The routes of GitOps: GitHub's webhook, and runs for people. The API front serves them under ``/api/v1``.

The scope that a route asks for stands in its ``opt``, for the API front to check. The webhook asks for none: its
signature is its authentication.
"""

from __future__ import annotations

import asyncio
import math
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

import msgspec
import structlog
from litestar import Request, Response, Router, post
from litestar.exceptions import InternalServerException
from litestar.handlers import BaseRouteHandler
from litestar.openapi import ResponseSpec
from litestar.params import Parameter
from opentelemetry.trace import Span, SpanKind

from gateway.base.rate_limited_log import LogRateLimit
from gateway.extensions.api.problems import ASKED, ProblemError, problems
from gateway.extensions.gitops import webhook
from gateway.extensions.gitops.replays import Replays, identity_of
from gateway.extensions.gitops.service import KIND, GitOpsService, UnknownRepositoryError
from gateway.net.access import Scope
from gateway.net.http_bodies import Bodies, Body
from gateway.runs.routes import SECURITY, Asked, run_routes, store_needed

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


_BODY_SECONDS = 10.0
"""How long a body may take to come, which may be a stranger's: GitHub itself gives a delivery up after ten seconds."""


_UNSIGNED = 32 * 2**20
"""Bytes kept at most of all bodies whose signature has not been checked, or twice the largest. Strangers may send them,
so they have a small part of the room that requests have (`gateway.net.http_bodies`)."""


_AGAIN = "this delivery was taken before"


class Taken(msgspec.Struct):
    """The runs that a delivery asked for: one for each clone that follows the branch; ``run_id`` is the first."""

    run_id: UUID
    run_ids: list[UUID]


class Ignored(msgspec.Struct, omit_defaults=True):
    """Why a delivery asked for nothing. ``run_ids`` are those that it asked for when it came before."""

    ignored: str
    run_ids: list[UUID] = msgspec.field(default_factory=list)


def make_router(service: GitOpsService) -> Router:
    """Make the routes of a service."""
    handlers = [*run_routes(service.runs, KIND, "gitops"), _sync_route(service)]
    if service.config.webhook is not None:
        handlers.append(_webhook_route(service, service.config.webhook.max_body_size))
    return Router("/", route_handlers=handlers, tags=["gitops"])


def _webhook_route(service: GitOpsService, max_body_size: int) -> BaseRouteHandler:
    door = _Door(service, max_body_size)

    @post(
        "/webhooks/github",
        opt={"scope": None},
        status_code=HTTPStatus.ACCEPTED,
        request_max_body_size=max_body_size,
        summary="Take a webhook delivery of GitHub",
        description="The signature X-Hub-Signature-256 over the body is checked first; a request that cannot have one "
        "is refused before its body. Then the runs are asked for "
        "that a push or a merged pull request calls for; 503 when they could not be written down, and then the "
        "delivery can be sent again at GitHub.",
        responses={
            **problems(
                HTTPStatus.UNAUTHORIZED,
                HTTPStatus.REQUEST_TIMEOUT,
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                HTTPStatus.TOO_MANY_REQUESTS,
                HTTPStatus.SERVICE_UNAVAILABLE,
            ),
            HTTPStatus.OK: ResponseSpec(Ignored, description="There is nothing to do, and why"),
        },
    )
    async def github(request: Request[Any, Any, Any]) -> Response[Taken]:
        body = await door.body_of(request)
        signature = request.headers["x-hub-signature-256"]
        if (before := door.replays.find(signature)) is not None:
            door.count_again()
            return Response(before, status_code=HTTPStatus.OK)  # type: ignore[arg-type]  # as `responses` says
        # An answer that refuses is no error of this gateway: its span says what the answer was.
        with service.operations.tracer.start_as_current_span(
            "gitops.webhook", kind=SpanKind.CONSUMER, record_exception=False, set_status_on_exception=False
        ) as span:
            answer = await _take(service, request, body, span)
        door.replays.add(signature, answer if isinstance(answer, Ignored) else Ignored(_AGAIN, answer.run_ids))
        if isinstance(answer, Ignored):
            return Response(answer, status_code=HTTPStatus.OK)  # type: ignore[arg-type]  # as `responses` says
        return Response(answer)

    return github


class _Door:
    """Lets in what is GitHub's.

    The whole world may reach the webhook: of strangers nothing is written to the store, little is logged, and little is
    kept in memory.
    """

    def __init__(self, service: GitOpsService, max_body_size: int) -> None:
        self._service = service
        self._max_body_size = max_body_size
        self._bodies = Bodies(max(_UNSIGNED, 2 * max_body_size))
        self._warnings = LogRateLimit()
        self.replays: Replays[Ignored] = Replays()

    async def body_of(self, request: Request[Any, Any, Any]) -> bytes:
        """Return the body of a delivery that is GitHub's. Raises `ProblemError` for any other."""
        self._check_head(request)
        arriving = Body(self._bodies)
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await self._read(request, arriving)
        except TimeoutError:
            raise ProblemError(
                HTTPStatus.REQUEST_TIMEOUT, f"the body did not come within {_BODY_SECONDS:g} s", {"connection": "close"}
            ) from None
        except InternalServerException:  # Litestar's word for a client that went away
            raise ProblemError(HTTPStatus.BAD_REQUEST, "the connection was closed within the body") from None
        finally:
            arriving.release()
        if not webhook.signed(body, request.headers.get("x-hub-signature-256"), self._service.secrets):
            raise self._unsigned()
        return body

    def count_again(self) -> None:
        """Count a delivery that was taken before. Raises `ProblemError` when that happens too often."""
        if wait := self.replays.wait():
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "deliveries that were taken before come too often",
                {"retry-after": str(math.ceil(wait))},
            )

    def _check_head(self, request: Request[Any, Any, Any]) -> None:
        """Refuse what no delivery of GitHub's begins with."""
        headers = request.headers
        if not webhook.is_signature(headers.get("x-hub-signature-256")):
            raise self._unsigned()
        if not webhook.is_delivery_id(headers.get("x-github-delivery")):
            raise ProblemError(HTTPStatus.BAD_REQUEST, "the header X-GitHub-Delivery is missing or malformed")
        if not webhook.is_event(headers.get("x-github-event")):
            raise ProblemError(HTTPStatus.BAD_REQUEST, "the header X-GitHub-Event is missing or malformed")
        if webhook.media_type(headers.get("content-type", "")) is None:
            raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "choose application/json at GitHub")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._max_body_size:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the delivery is larger than {self._max_body_size} bytes, which is webhook.max_body_size of the "
                "extension gitops",
            )

    async def _read(self, request: Request[Any, Any, Any], arriving: Body) -> bytes:
        chunks = []
        async for chunk in request.stream():
            if not arriving.take(len(chunk)):
                raise ProblemError(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "too many deliveries are arriving at once; send it again",
                    {"retry-after": "10", "connection": "close"},
                )
            chunks.append(chunk)
        return b"".join(chunks)

    def _unsigned(self) -> ProblemError:
        if refused := self._warnings.count():
            _log.warning("webhooks are refused: their signatures are missing or wrong", refused=refused)
        return ProblemError(
            HTTPStatus.UNAUTHORIZED,
            "the header X-Hub-Signature-256 is missing or wrong: set the same secret at GitHub and in the "
            "configuration",
        )


async def _take(service: GitOpsService, request: Request[Any, Any, Any], body: bytes, span: Span) -> Taken | Ignored:
    """Take a delivery of GitHub's. Raises `ProblemError` for one that makes no sense, or cannot be written down."""
    headers, result = request.headers, "obs_hub.webhook.result"
    delivery, event = headers["x-github-delivery"], headers["x-github-event"]
    try:
        payload = webhook.parse(body, headers.get("content-type", ""))
    except webhook.MalformedDeliveryError as error:
        span.set_attribute(result, "malformed")
        raise ProblemError(HTTPStatus.BAD_REQUEST, str(error)) from error
    decision = webhook.decide(event, payload, service.config.repositories)
    span.set_attributes({"obs_hub.webhook.delivery": delivery, "obs_hub.webhook.event": event})
    if not decision.repositories:
        span.set_attribute(result, "ignored")
        _log.info("webhook ignored", delivery=delivery, reason=decision.reason)
        return Ignored(decision.reason)
    trigger = {"source": "github", "event": event, "delivery": delivery, **decision.about}
    span.set_attribute(result, "unavailable")  # unless it comes to one of those below
    with store_needed():
        signed = identity_of(headers["x-hub-signature-256"])
        enqueued = await service.deliver((signed, delivery), decision.repositories, trigger, span)
    ids = list(enqueued.run_ids)
    if enqueued.replayed:
        span.set_attribute(result, "replayed")
        return Ignored(_AGAIN, ids)
    span.set_attribute(result, "accepted")
    _log.info("webhook taken", delivery=delivery, runs=list(map(str, ids)), repositories=decision.repositories)
    return Taken(ids[0], ids)


def _sync_route(service: GitOpsService) -> BaseRouteHandler:
    @post(
        "/gitops/{repository:str}/sync",
        opt={"scope": Scope.ADMIN},
        security=SECURITY,
        status_code=HTTPStatus.ACCEPTED,
        summary="Ask for a run of a repository",
        responses=problems(*ASKED, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE),
    )
    async def sync(
        repository: Annotated[str, Parameter(description="As the configuration names it")],
        force: Annotated[bool, Parameter(description="Though it is rolled out already, or failed before")] = False,
    ) -> Asked:
        with service.operations.tracer.start_as_current_span("gitops.sync") as span, store_needed():
            try:
                return Asked(await service.sync(repository, {"source": "api", "force": force}, span))
            except UnknownRepositoryError as error:
                raise ProblemError(HTTPStatus.NOT_FOUND, str(error)) from error

    return sync
