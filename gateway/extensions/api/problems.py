"""Errors as problem details (RFC 9457): one shape for all of them, and no word of what is inside."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import MediaType, Request, Response
from litestar.datastructures.headers import Accept
from litestar.exceptions import HTTPException
from litestar.openapi import ResponseSpec

from gateway.component import OverloadedError
from gateway.extensions.api.templates import rendered
from gateway.net.access import PermissionDeniedError, UnauthenticatedError

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

REQUEST_ID = "obs_hub_request_id"
"""Where the id of a request is kept in its ASGI state."""


class Problem(msgspec.Struct, omit_defaults=True):
    """What went wrong, for people and for programs."""

    title: str
    status: int
    detail: str = ""
    request_id: str = ""
    errors: list[dict[str, Any]] = msgspec.field(default_factory=list)
    type: str = "about:blank"


def problems(*statuses: HTTPStatus) -> dict[int, ResponseSpec]:
    """Describe, for a handler's OpenAPI, the problems it answers with besides those that any has."""
    return {
        status: ResponseSpec(Problem, description=status.phrase, media_type="application/problem+json")
        for status in (HTTPStatus.BAD_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR, *statuses)
    }


ASKED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
"""What a handler that has a scope answers to those who may not call it."""


class ProblemError(HTTPException):
    """Raised by a handler to answer with a problem."""

    def __init__(self, status: HTTPStatus, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail=detail, status_code=status, headers=headers)


def answer(
    request: Request[Any, Any, Any], status: int, detail: str, headers: dict[str, str] | None = None, **more: Any
) -> Response[bytes]:
    """Make the answer for a problem."""
    problem = Problem(
        HTTPStatus(status).phrase, status, detail, str(request.scope.get("state", {}).get(REQUEST_ID, "")), **more
    )
    body, media_type = encoded(problem, request.headers.get("accept", ""))
    return Response(body, status_code=status, media_type=media_type, headers={**(headers or {}), "vary": "accept"})


def encoded(problem: Problem, accept: str) -> tuple[bytes, str]:
    """Return a problem as the body of an answer, and its media type: a page for a browser, and else JSON.

    ``accept`` is the header by that name.
    """
    if Accept(accept).best_match([MediaType.JSON, MediaType.HTML]) == MediaType.HTML:
        return rendered("problem.html", problem=problem).encode(), MediaType.HTML.value
    return msgspec.json.encode(problem), "application/problem+json"


def on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answer what a handler or Litestar itself refuses."""
    detail = error.detail
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.NOT_FOUND and not isinstance(error, ProblemError):
        detail = f"there is nothing at {request.scope['path']}; /api/v1/openapi.json lists what there is"
    if error.status_code >= 500 and not isinstance(error, ProblemError):
        return on_exception(request, error)
    extra = error.extra if isinstance(error.extra, list) else []
    errors = [{key: each[key] for key in ("message", "key", "source") if key in each} for each in extra]
    return answer(request, error.status_code, detail, headers, errors=errors)


def on_access_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer a caller who is not known, not allowed, or too eager (RFC 6750, 3)."""
    match error:
        case UnauthenticatedError():
            suffix = ', error="invalid_token"' if error.presented else ""
            headers = {"www-authenticate": f'Bearer realm="obs-hub"{suffix}'}
            return answer(request, HTTPStatus.UNAUTHORIZED, str(error), headers)
        case PermissionDeniedError():
            headers = {"www-authenticate": 'Bearer realm="obs-hub", error="insufficient_scope"'}
            return answer(request, HTTPStatus.FORBIDDEN, str(error), headers)
        case OverloadedError():
            headers = {"retry-after": str(max(1, round(error.retry_after)))}
            return answer(request, HTTPStatus.TOO_MANY_REQUESTS, str(error), headers)
        case _:
            return on_exception(request, error)


def on_exception(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer an error that nobody foresaw. Its text stays in the log, for it may hold secrets."""
    request_id = request.scope.get("state", {}).get(REQUEST_ID)
    _log.error("unexpected error in the API", path=request.scope["path"], request_id=request_id, exc_info=error)
    return answer(request, HTTPStatus.INTERNAL_SERVER_ERROR, "the gateway failed to answer; its log says why")
