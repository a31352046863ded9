"""Runs over HTTP: what every kind of them shows to people and programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import get
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter

from gateway.extensions.api.problems import ASKED, ProblemError, problems
from gateway.net.access import Scope
from gateway.runs.repository import Runs, RunsUnavailableError
from gateway.runs.shown import RunDetails, RunSummary, details, summary

_RETRY_AFTER = {"retry-after": "30"}
SECURITY: list[dict[str, list[str]]] = [{"token": []}]


class RunList(msgspec.Struct):
    """Runs, newest first."""

    runs: list[RunSummary]


class Asked(msgspec.Struct):
    """The run that was asked for."""

    run_id: UUID


@contextmanager
def store_needed() -> Iterator[None]:
    """Answer 503 when the store is away in this block."""
    try:
        yield
    except RunsUnavailableError as error:
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, str(error), _RETRY_AFTER) from error


def run_routes(runs: Runs, kind: str, tag: str) -> Sequence[BaseRouteHandler]:
    """Make the handlers that show the runs of one kind, under ``/{tag}/runs``."""

    @get(
        f"/{tag}/runs",
        summary="List runs, newest first",
        operation_id=f"{tag}_list_runs",
        responses=problems(*ASKED, HTTPStatus.SERVICE_UNAVAILABLE),
        opt={"scope": Scope.READ},
        security=SECURITY,
    )
    async def list_runs(
        name: Annotated[str | None, Parameter(description="Only those of this name")] = None,
        limit: Annotated[int, Parameter(ge=1, le=500, description="How many at most")] = 50,
    ) -> RunList:
        with store_needed():
            return RunList([summary(run) for run in await runs.history(kind, name, limit=limit)])

    @get(
        f"/{tag}/runs/{{run_id:uuid}}",
        summary="Show a run with what it wrote",
        operation_id=f"{tag}_show_run",
        responses=problems(*ASKED, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE),
        opt={"scope": Scope.READ},
        security=SECURITY,
    )
    async def show_run(run_id: Annotated[UUID, Parameter(description="The run's id")]) -> RunDetails:
        with store_needed():
            run = await runs.get(run_id)
        if run is None or run.kind != kind:
            raise ProblemError(HTTPStatus.NOT_FOUND, f"there is no run {run_id}; it may have been removed since")
        return details(run)

    return [list_runs, show_run]
