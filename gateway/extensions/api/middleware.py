"""What stands around every request: its id, its span, the names it may be for, and the headers of its answer."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import uuid
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from litestar import MediaType
from opentelemetry.metrics import Meter
from opentelemetry.trace import Tracer

from gateway.extensions.api.problems import REQUEST_ID, Problem, encoded
from gateway.extensions.api.request_span import RequestSpan, method_of
from gateway.net.hosts import Hosts

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Message, Receive, Send

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
"""Seconds; as the semantic conventions for HTTP metrics advise."""
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_SIGNED = "/api/v1/webhooks/"
"""What is below it knows its callers by a signature, which no page in a browser can make. They come by the public name
of whatever leads them here, such as a Tailscale Funnel."""
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),  # with no-referrer, forms of the page would come from the origin "null"
    (b"cross-origin-resource-policy", b"same-origin"),
)
_HTML = (
    (b"x-frame-options", b"DENY"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HSTS = (b"strict-transport-security", b"max-age=31536000")
_COOP = (b"cross-origin-opener-policy", b"same-origin")
"""Over plain HTTP browsers drop it, and say so in an error, unless the address is of loopback."""


class RequestMiddleware:
    """Wraps an application. ``hosts`` are the names it may be called by. ``tls``: it is served by TLS."""

    def __init__(self, app: ASGIApp, tracer: Tracer, meter: Meter, hosts: Hosts, *, tls: bool = False) -> None:
        self._app = app
        self._tracer = tracer
        self._duration = meter.create_histogram(
            "http.server.request.duration",
            "s",
            "Duration of HTTP server requests",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._hosts = hosts
        self._tls = tls

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = scope["headers"]
        presented = _header(headers, b"x-request-id")
        request_id = presented.decode() if presented and _SANE_ID.fullmatch(presented) else uuid.uuid4().hex
        scope.setdefault("state", {})[REQUEST_ID] = request_id
        arrived = time.perf_counter()
        with (
            structlog.contextvars.bound_contextvars(request_id=request_id),
            contextlib.closing(RequestSpan(self._tracer, scope)) as span,
        ):
            begun = False

            async def answer(message: Message) -> None:
                nonlocal begun
                if message["type"] == "http.response.start":
                    begun = True
                    span.answered(message["status"])
                    self._duration.record(time.perf_counter() - arrived, _labels(scope, message["status"]))
                    message["headers"] = [*message["headers"], *self._more(message, request_id, span)]
                await send(message)

            if problem := self._refusal(scope["method"], scope["path"], headers):
                await _send_problem(answer, problem, request_id, headers)
                return
            # What answers GET answers HEAD; the server leaves the body away.
            inner: Any = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
            try:
                await self._app(inner, receive, answer)
            except asyncio.CancelledError:
                # Only the server's `stop` cancels a request, after the grace period.
                if begun:
                    raise
                problem = Problem("Service Unavailable", 503, "the gateway is shutting down; please try again")
                await _send_problem(answer, problem, request_id, headers)

    def _refusal(self, method: str, path: str, headers: Sequence[tuple[bytes, bytes]]) -> Problem | None:
        wrong = self._hosts.refusal(headers)
        if wrong is not None and not (wrong.status is HTTPStatus.MISDIRECTED_REQUEST and path.startswith(_SIGNED)):
            return Problem(wrong.status.phrase, wrong.status, wrong.reason)
        if path.startswith(_SIGNED):
            return None
        host = (_header(headers, b"host") or b"").decode("latin-1").lower()
        if method in _SAFE_METHODS:
            return None
        site, origin = _header(headers, b"sec-fetch-site"), _header(headers, b"origin")
        foreign = origin is not None and origin.decode("latin-1").lower() not in (f"http://{host}", f"https://{host}")
        if foreign or site in (b"cross-site", b"same-site"):
            return Problem("Forbidden", 403, "a page of another site may not call this")
        return None

    def _more(self, message: Message, request_id: str, span: RequestSpan) -> list[tuple[bytes, bytes]]:
        present = {name.lower() for name, _ in message["headers"]}  # type: ignore[typeddict-item]
        more = [*_ALWAYS, (b"x-request-id", request_id.encode())]
        content_type = _header(message["headers"], b"content-type") or b""  # type: ignore[typeddict-item]
        if content_type.startswith(b"text/html"):
            more += [*_HTML, (b"content-security-policy", CSP.encode()), *((_COOP,) if self._tls else ())]
        if span.trace_id is not None:
            more.append((b"x-trace-id", span.trace_id.encode()))
        if self._tls:
            more.append(_HSTS)
        if b"cache-control" not in present:
            more.append((b"cache-control", b"no-store"))
        return [(name, value) for name, value in more if name not in present]


def _labels(scope: Any, status: int) -> dict[str, str | int]:
    labels = {
        "http.request.method": method_of(scope),
        "url.scheme": scope["scheme"],
        # An enumeration would be another value to the SDK, and its points a second lot of the same series.
        "http.response.status_code": int(status),
    }
    route = scope.get("path_template")
    return labels if route is None else {**labels, "http.route": route}


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    return next((value for key, value in headers if key.lower() == name), None)


async def _send_problem(send: Send, problem: Problem, request_id: str, asked: Iterable[tuple[bytes, bytes]]) -> None:
    problem.request_id = request_id
    body, media_type = encoded(problem, (_header(asked, b"accept") or b"").decode("latin-1"))
    charset = "; charset=utf-8" if media_type == MediaType.HTML else ""  # JSON is UTF-8
    headers = [
        (b"content-type", f"{media_type}{charset}".encode()),
        (b"content-length", str(len(body)).encode()),
        (b"vary", b"accept"),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
