"""The routes of pipelines. The API front serves them under ``/api/v1``."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

import msgspec
from litestar import Router, get, post
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter

from gateway.base.settings import format_duration
from gateway.extensions.api.problems import ASKED, ProblemError, problems
from gateway.extensions.document_pipelines.run import KIND
from gateway.extensions.document_pipelines.service import PipelinesService, UnknownPipelineError
from gateway.net.access import Scope
from gateway.runs.routes import SECURITY, Asked, run_routes, store_needed
from gateway.runs.shown import RunSummary, summary


class PipelineInfo(msgspec.Struct):
    """A pipeline, where it reads and how its last run went. ``every`` is like ``1m``."""

    name: str
    database: str
    collection: str
    every: str | None
    watch: bool
    last_run: RunSummary | None


class PipelineList(msgspec.Struct):
    """The pipelines that are configured, by name."""

    pipelines: list[PipelineInfo]


def make_router(service: PipelinesService) -> Router:
    """Make the routes of a service."""
    handlers = [_list_route(service), _run_route(service), *run_routes(service.runs, KIND, "pipelines")]
    return Router("/", route_handlers=handlers, tags=["pipelines"])


def _list_route(service: PipelinesService) -> BaseRouteHandler:
    @get(
        "/pipelines",
        opt={"scope": Scope.READ},
        security=SECURITY,
        summary="List the pipelines, each with its last run",
        operation_id="pipelines_list",
        responses=problems(*ASKED, HTTPStatus.SERVICE_UNAVAILABLE),
    )
    async def list_pipelines() -> PipelineList:
        found = []
        with store_needed():
            for name, pipeline in sorted(service.config.pipelines.items()):
                last = await service.runs.history(KIND, name, limit=1)
                every = pipeline.schedule.every
                found.append(
                    PipelineInfo(
                        name,
                        *pipeline.place,
                        None if every is None else format_duration(every),
                        pipeline.schedule.watch,
                        summary(last[0]) if last else None,
                    )
                )
        return PipelineList(found)

    return list_pipelines


def _run_route(service: PipelinesService) -> BaseRouteHandler:
    @post(
        "/pipelines/{name:str}/runs",
        opt={"scope": Scope.ADMIN},
        security=SECURITY,
        status_code=HTTPStatus.ACCEPTED,
        summary="Ask for a run of a pipeline",
        operation_id="pipelines_run",
        description="One that waits already is as good: then its id is returned.",
        responses=problems(*ASKED, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE),
    )
    async def ask(name: Annotated[str, Parameter(description="As the configuration names it")]) -> Asked:
        with service.operations.tracer.start_as_current_span("pipeline.ask") as span, store_needed():
            try:
                return Asked(await service.ask(name, {"source": "api"}, span))
            except UnknownPipelineError as error:
                raise ProblemError(HTTPStatus.NOT_FOUND, str(error)) from error

    return ask
