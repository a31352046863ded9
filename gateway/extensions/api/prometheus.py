"""Prometheus's API on the front, under ``/prometheus/api/v1``."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from litestar import asgi

from gateway.extensions.api.queries import Answer, Queries
from gateway.net.access import Scope as Allowed
from gateway.query.errors import QueryError
from gateway.query.limits import Usage
from gateway.query.prometheus import encoding
from gateway.query.prometheus.answers import Answers
from gateway.query.prometheus.parameters import Parameters

if TYPE_CHECKING:
    from litestar.handlers import ASGIRouteHandler
    from litestar.types import Receive, Scope, Send

PATH = "/prometheus"
_API = "/api/v1/"
_STATUSES = {"bad_data": 400, "execution": 422, "canceled": 499, "timeout": 503, "not_found": 404}
"""Source: Prometheus, ``web/api/v1``. Whatever else is an error of the server."""


def prometheus_route(queries: Queries) -> ASGIRouteHandler:
    """Make the handler of everything below `PATH`."""
    answers = Answers(queries.service)

    @asgi(PATH, is_mount=True, copy_scope=True, opt={"scope": Allowed.READ})
    async def prometheus(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].rstrip("/").removeprefix(PATH)
        found = answers.find(path.removeprefix(_API)) if path.startswith(_API) else None
        method = scope["method"]  # type: ignore[typeddict-item]

        def work(parameters: Parameters, usage: Usage) -> Answer:
            if found is None:
                return Answer(
                    [encoding.failure("not_found", f"there is nothing at {PATH}{path}")], HTTPStatus.NOT_FOUND
                )
            if method not in ("GET", "POST"):
                said = encoding.failure("bad_data", f"{method} is not allowed here; use GET or POST")
                return Answer([said], HTTPStatus.METHOD_NOT_ALLOWED, headers=(("allow", "GET, POST"),))
            return Answer(found(parameters, usage))

        await queries.serve(scope, receive, send, work, _failed)

    return prometheus


def _failed(error: QueryError) -> Answer:
    status = _STATUSES.get(error.kind, HTTPStatus.INTERNAL_SERVER_ERROR)
    return Answer([encoding.failure(error.kind, str(error))], status)
