"""The part of Tempo's API that shows a trace, under ``/tempo/api``.

Grafana asks for a trace at ``/api/v2/traces``, whose answer only Tempo has; told that there is none, it asks at
``/api/traces``, and takes OTLP as it is.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from google.protobuf import json_format
from litestar import asgi

from gateway.extensions.api.queries import Answer, Queries
from gateway.net.access import Scope as Allowed
from gateway.query.errors import QueryError
from gateway.query.limits import Usage
from gateway.query.prometheus.parameters import Parameters
from gateway.query.traces import otlp

if TYPE_CHECKING:
    from litestar.handlers import ASGIRouteHandler
    from litestar.types import Receive, Scope, Send

PATH = "/tempo"
_TRACE = re.compile(r"/api/traces/([^/]+)")
_STATUSES = {"bad_data": 400, "execution": 422, "canceled": 499, "timeout": 503}
_TEXT, _PROTOBUF = "text/plain; charset=utf-8", "application/protobuf"


def tempo_route(queries: Queries) -> ASGIRouteHandler:
    """Make the handler of everything below `PATH`."""

    def trace(its_id: str, accept: str, usage: Usage) -> Answer:
        found_id = otlp.trace_id(its_id)
        with queries.service.reading(usage) as reading:
            found = otlp.read(reading, found_id)
        if found is None:
            return _said(HTTPStatus.NOT_FOUND, f"the store has no span of the trace {found_id}")
        if "json" in accept and "protobuf" not in accept:
            return Answer([json_format.MessageToJson(found, indent=None).encode()])
        return Answer([found.SerializeToString()], content_type=_PROTOBUF)

    @asgi(PATH, is_mount=True, copy_scope=True, opt={"scope": Allowed.READ})
    async def tempo(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].rstrip("/").removeprefix(PATH)
        method = scope["method"]  # type: ignore[typeddict-item]
        accept = next((value for name, value in scope["headers"] if name == b"accept"), b"").decode("latin-1")

        def work(_: Parameters, usage: Usage) -> Answer:
            if method != "GET":
                return _said(HTTPStatus.METHOD_NOT_ALLOWED, f"{method} is not allowed here; use GET", allow="GET")
            if path == "/api/echo":
                return _said(HTTPStatus.OK, "echo")
            if (asked := _TRACE.fullmatch(path)) is not None:
                return trace(asked[1], accept, usage)
            return _said(HTTPStatus.NOT_FOUND, f"there is nothing at {PATH}{path}; /tempo/api/traces/ID has a trace")

        await queries.serve(scope, receive, send, work, _failed)

    return tempo


def _said(status: int, text: str, **headers: str) -> Answer:
    return Answer([text.encode()], status, _TEXT, tuple(headers.items()))


def _failed(error: QueryError) -> Answer:
    return _said(_STATUSES.get(error.kind, HTTPStatus.INTERNAL_SERVER_ERROR), str(error))
