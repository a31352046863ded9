"""The routes of GitOps: GitHub's webhook, and runs for people. The API front serves them under ``/api/v1``.

The scope that a route asks for stands in its ``opt``, for the API front to check. The webhook asks for none: its
signature is its authentication.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import structlog
from litestar import Request, Response, Router, get, post
from litestar.exceptions import HTTPException
from litestar.params import Parameter
from opentelemetry.trace import SpanKind

from gateway.gitops import webhook
from gateway.gitops.service import KIND, GitOpsService, UnknownRepositoryError
from gateway.pipeline.access import Scope
from gateway.runs import Run, RunsUnavailableError

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_RETRY_AFTER = {"retry-after": "30"}


def problem(status: int, title: str, detail: str, headers: dict[str, str] | None = None) -> Response[dict[str, Any]]:
    """Return an error as problem details (RFC 9457)."""
    return Response(
        {"type": "about:blank", "title": title, "status": status, "detail": detail},
        status_code=status,
        media_type="application/problem+json",
        headers=headers or {},
    )


def unavailable(error: RunsUnavailableError) -> Response[dict[str, Any]]:
    """Return that the store is away."""
    return problem(503, "Service Unavailable", str(error), _RETRY_AFTER)


def describe(run: Run, *, output: bool = True) -> dict[str, Any]:
    """Return a run as JSON has it."""
    described = {
        "id": str(run.id),
        "repository": run.name,
        "state": run.state.value,
        "trigger": run.trigger,
        "requested_at": run.requested_at.isoformat(),
        "started_at": run.started_at and run.started_at.isoformat(),
        "finished_at": run.finished_at and run.finished_at.isoformat(),
        "attempt": run.attempt,
        "counts": run.counts,
        "result": run.result,
        "error": run.error,
        "superseded_by": run.superseded_by and str(run.superseded_by),
        "trace_id": run.trace_id,
    }
    return {**described, "output": run.output} if output else described


def make_router(service: GitOpsService) -> Router:
    """Make the routes of a service."""
    handlers: list[Any] = [*_run_routes(service)]
    if service.config.webhook is not None:
        handlers.append(_webhook_route(service, service.config.webhook.max_body_size))
    return Router("/", route_handlers=handlers, tags=["gitops"])


def _webhook_route(service: GitOpsService, max_body_size: int) -> Any:
    @post(
        "/webhooks/github",
        opt={"scope": None},
        status_code=202,
        request_max_body_size=max_body_size,
        summary="Take a webhook delivery of GitHub",
        responses={},
    )
    async def github(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        """Check the signature, then ask for the runs that a push or a merged pull request calls for.

        202 with the runs' ids; 200 with the reason when there is nothing to do; 503 when the run could not be written
        down, and then the delivery can be sent again at GitHub.
        """
        headers = request.headers
        with service.operations.tracer.start_as_current_span("gitops.webhook", kind=SpanKind.CONSUMER) as span:
            try:
                body = await request.body()
            except HTTPException as error:
                return problem(error.status_code, "Content Too Large", f"a delivery has {max_body_size} bytes at most")
            if not webhook.signed(body, headers.get("x-hub-signature-256"), service.secrets):
                _log.warning("webhook refused: its signature is missing or wrong")
                span.set_attribute("obs_hub.webhook.result", "unauthenticated")
                return problem(
                    401,
                    "Unauthorized",
                    "the header X-Hub-Signature-256 is missing or wrong: set the same secret at GitHub and in the "
                    "configuration",
                )
            delivery, event = headers.get("x-github-delivery"), headers.get("x-github-event", "")
            try:
                if delivery is None or not webhook.is_delivery_id(delivery):
                    raise webhook.MalformedDeliveryError("the header X-GitHub-Delivery is missing or malformed")
                payload = webhook.parse(body, headers.get("content-type", ""))
            except webhook.MalformedDeliveryError as error:
                return problem(400, "Bad Request", str(error))
            decision = webhook.decide(event, payload, service.config.repositories)
            span.set_attributes({"obs_hub.webhook.delivery": delivery, "obs_hub.webhook.event": event[:50]})
            if not decision.repositories:
                span.set_attribute("obs_hub.webhook.result", "ignored")
                _log.info("webhook ignored", delivery=delivery, reason=decision.reason)
                return Response({"ignored": decision.reason}, status_code=200)
            trigger = {"source": "github", "event": event, "delivery": delivery, **decision.about}
            try:
                enqueued = await service.deliver(delivery, decision.repositories, trigger, span)
            except RunsUnavailableError as error:
                _log.warning("webhook not taken", delivery=delivery, reason=str(error))
                span.set_attribute("obs_hub.webhook.result", "unavailable")
                return unavailable(error)
            ids = [str(each) for each in enqueued.run_ids]
            span.set_attribute("obs_hub.webhook.result", "replayed" if enqueued.replayed else "accepted")
            if enqueued.replayed:
                return Response({"ignored": "this delivery was taken before", "run_ids": ids}, status_code=200)
            _log.info("webhook taken", delivery=delivery, runs=ids, repositories=decision.repositories)
            return Response({"run_id": ids[0], "run_ids": ids}, status_code=202)

    return github


def _run_routes(service: GitOpsService) -> list[Any]:
    @get("/gitops/runs", opt={"scope": Scope.READ}, summary="List the runs of GitOps, newest first")
    async def list_runs(
        repository: Annotated[str | None, Parameter(description="Only those of this repository")] = None,
        limit: Annotated[int, Parameter(ge=1, le=500, description="How many at most")] = 50,
    ) -> Response[dict[str, Any]]:
        try:
            found = await service.runs.history(KIND, repository, limit=limit)
        except RunsUnavailableError as error:
            return unavailable(error)
        return Response({"runs": [describe(run, output=False) for run in found]})

    @get("/gitops/runs/{run_id:uuid}", opt={"scope": Scope.READ}, summary="Show a run with its output")
    async def show_run(run_id: Annotated[UUID, Parameter(description="The run's id")]) -> Response[dict[str, Any]]:
        try:
            run = await service.runs.get(run_id)
        except RunsUnavailableError as error:
            return unavailable(error)
        if run is None or run.kind != KIND:
            return problem(404, "Not Found", f"there is no GitOps run {run_id}; it may have been removed since")
        return Response(describe(run))

    @post(
        "/gitops/{repository:str}/sync",
        opt={"scope": Scope.ADMIN},
        status_code=202,
        summary="Ask for a run of a repository",
    )
    async def sync(
        repository: Annotated[str, Parameter(description="As the configuration names it")],
        force: Annotated[bool, Parameter(description="Though it is rolled out already, or failed before")] = False,
    ) -> Response[dict[str, Any]]:
        with service.operations.tracer.start_as_current_span("gitops.sync") as span:
            try:
                identity = await service.sync(repository, {"source": "api", "force": force}, span)
            except UnknownRepositoryError as error:
                return problem(404, "Not Found", str(error))
            except RunsUnavailableError as error:
                return unavailable(error)
        return Response({"run_id": str(identity)}, status_code=202)

    return [list_runs, show_run, sync]
