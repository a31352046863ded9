"""What the hub says of itself, and the synthetic check."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated

import msgspec
from litestar import Response, get, post
from litestar.handlers import BaseRouteHandler
from litestar.openapi import ResponseSpec
from litestar.params import Parameter

from gateway.component import DeliveryError
from gateway.extensions.api.problems import ASKED, ProblemError, problems
from gateway.extensions.api.status import Dependency, HubStatus, Probe, Readiness, State
from gateway.extensions.api.synthetic import SyntheticReport, run
from gateway.extensions.view import HubView
from gateway.net.access import Scope


class Health(msgspec.Struct):
    """The process answers."""

    status: State


def routes(view: HubView, *, reads_are_open: bool) -> Sequence[BaseRouteHandler]:
    """Make the handlers. Where reading needs a token, readiness, which needs none, tells states without details."""
    probe = Probe(view)
    running = asyncio.Lock()

    @get(
        "/health",
        summary="Liveness: the process answers",
        tags=["status"],
        responses=problems(),
        opt={"scope": None},
        sync_to_thread=False,
    )
    def health() -> Health:
        return Health(State.OK)

    @get(
        "/ready",
        summary="Readiness: telemetry is taken; each dependency with its state",
        description="`degraded` means that nothing is lost and something is wrong, such as a store that is away. "
        "It counts as ready, unless `strict` is true.",
        tags=["status"],
        responses={
            **problems(),
            HTTPStatus.SERVICE_UNAVAILABLE: ResponseSpec(Readiness, description="Not ready"),
        },
        opt={"scope": None},
    )
    async def ready(
        strict: Annotated[bool, Parameter(description="Count degraded as not ready")] = False,
    ) -> Response[Readiness]:
        readiness = await probe.readiness()
        good = readiness.status is State.OK or (readiness.status is State.DEGRADED and not strict)
        if not reads_are_open:
            bare = [Dependency(each.name, each.state) for each in readiness.dependencies]
            readiness = Readiness(readiness.status, bare)
        return Response(readiness, status_code=HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE)

    @get(
        "/status",
        summary="Everything at a glance",
        tags=["status"],
        responses=problems(*ASKED),
        opt={"scope": Scope.READ},
        security=[{"token": []}],
    )
    async def status() -> HubStatus:
        return await probe.status()

    @post(
        "/synthetic",
        summary="Send a metric, an event and a span through the hub, and read them back",
        status_code=HTTPStatus.OK,
        tags=["status"],
        responses=problems(*ASKED, HTTPStatus.SERVICE_UNAVAILABLE),
        opt={"scope": Scope.ADMIN},
        security=[{"token": []}],
    )
    async def synthetic() -> SyntheticReport:
        if view.dsn is None:
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "no store is configured to read from")
        if running.locked():
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS, "another synthetic check is under way", {"retry-after": "1"}
            )
        try:
            async with running:
                return await run(view.consumer, view.dsn, view.tracer)
        except DeliveryError as error:
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, f"the hub did not take it: {error}") from error

    return [health, ready, status, synthetic]
