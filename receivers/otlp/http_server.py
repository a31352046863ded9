"""OTLP over HTTP, protobuf and JSON: a Litestar application, served by uvicorn inside the running event loop.

Source of the rules: OTLP specification, "OTLP/HTTP".
"""

from __future__ import annotations

import asyncio
import enum
import functools
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import grpc
import msgspec
import structlog
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from litestar import Litestar, Request, Response, post
from litestar.config.cors import CORSConfig
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler

from gateway.base.rate_limited_log import LogRateLimit
from gateway.component import (
    ACCEPTED,
    Batch,
    Consumer,
    MalformedPayloadError,
    NoPipelineError,
    OverloadedError,
    Signal,
    TooLargeError,
)
from gateway.net.access import (
    NOTHING_HELD,
    Authenticator,
    Held,
    PermissionDeniedError,
    Scope,
    UnauthenticatedError,
    reason_of,
)
from gateway.net.destination import OWN_TELEMETRY_HEADER
from gateway.net.hosts import Hosts
from gateway.net.http_bodies import Bodies, Body, body_of
from gateway.net.http_serving import AppServer
from gateway.otlp.services import SERVICES, Service
from receivers.otlp import compression
from receivers.otlp.config import CorsConfig, HttpConfig
from receivers.otlp.otlp_json import Transcoded, to_protobuf
from receivers.otlp.refusal import Refusal, malformed, refusal_of, too_large, unavailable

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Receive, Send

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_Request = Request[Any, Any, Any]


class MediaType(enum.StrEnum):
    """The two encodings of OTLP/HTTP. A response has its request's."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"

    def write(self, message: Message) -> bytes:
        """Serialize a response message: an ``Export*ServiceResponse`` or a ``google.rpc.Status``."""
        if self is MediaType.JSON:
            return msgspec.json.encode(MessageToDict(message))
        return message.SerializeToString()


_LARGE_JSON = 2**20

_MEDIA_TYPES = {media_type.value: media_type for media_type in MediaType}


def media_type_of(request: _Request) -> MediaType | None:
    """Return the encoding the request says it has, None when that is none of OTLP's. Parameters do not matter."""
    return _media_type_in(request.headers.get("content-type", ""))


def _media_type_in(content_type: str) -> MediaType | None:
    return _MEDIA_TYPES.get(content_type.partition(";")[0].strip().lower())


class HttpServer(AppServer):
    """The HTTP server of one receiver. ``setting`` is where its settings stand, for error messages."""

    protocol = "http"

    def __init__(
        self,
        setting: str,
        config: HttpConfig,
        consumer: Consumer,
        authenticator: Authenticator | None = None,
        *,
        signals: Collection[Signal] = tuple(Signal),
        bodies: Bodies | None = None,
        reuse_port: bool,
    ) -> None:
        app = _Named(create_app(setting, config, consumer, authenticator, signals), Hosts(setting, config), consumer)
        bodies = bodies or Bodies()
        bodies.make_room_for(config.max_request_body_size)
        super().__init__(setting, config, app, consumer.refuse_connection, bodies=bodies, reuse_port=reuse_port)


def create_app(
    setting: str,
    config: HttpConfig,
    consumer: Consumer,
    authenticator: Authenticator | None = None,
    signals: Collection[Signal] = tuple(Signal),
) -> ASGIApp:
    """Make the application: one POST route for each signal, and every error as a ``google.rpc.Status``."""
    turns = _Turns()
    exports = [
        _Export(service, setting, config, consumer, authenticator, turns, has_pipeline=service.signal in signals)
        for service in SERVICES.values()
    ]
    app = Litestar(
        route_handlers=[export.route() for export in exports],
        exception_handlers={HTTPException: _answer_http_exception},
        cors_config=_cors(config.cors),
        openapi_config=None,
        logging_config=None,  # the gateway configures logging, not this application
        request_max_body_size=None,  # bounded here, with a message that names the setting
    )
    return _Direct(app, exports)


class _Direct:
    """Answers exports as they mostly come: by their exact path, and from no browser. All else is the application's.

    Of a small request, finding its route and making its answer took more than half of the time that HTTP took.
    """

    def __init__(self, app: ASGIApp, exports: Collection[_Export]) -> None:
        self._app = app
        self._exports = {export.path: export for export in exports}

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        is_export = scope["type"] == "http" and scope["method"] == "POST"
        export = self._exports.get(scope["path"]) if is_export else None
        if export is None or b"origin" in dict(scope["headers"]):
            await self._app(scope, receive, send)
            return
        answer = await export.answer(_Request(scope, receive, send))
        content = answer.content
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
        headers.append((b"content-type", str(answer.media_type).encode()))
        headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": answer.status_code or HTTPStatus.OK, "headers": headers})
        await send({"type": "http.response.body", "body": content, "more_body": False})


class _Named:
    """Stands around the application: what is for a name that is not ours, it does not see.

    gRPC needs nothing like it: no browser speaks HTTP/2 without TLS, and with TLS the name must be in the certificate.
    """

    def __init__(self, app: ASGIApp, hosts: Hosts, consumer: Consumer) -> None:
        self._app = app
        self._hosts = hosts
        self._consumer = consumer
        self._warnings = LogRateLimit()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        wrong = self._hosts.refusal(scope["headers"]) if scope["type"] == "http" else None
        if wrong is None:
            await self._app(scope, receive, send)
            return
        if requests := self._warnings.count():
            _log.warning(
                "requests for a name that is not this server's are refused", reason=wrong.reason, requests=requests
            )
        for service in SERVICES.values():
            if service.http_path == scope["path"]:
                self._consumer.refuse(service.signal, "wrong_host")
        refusal = Refusal(wrong.status, grpc.StatusCode.INVALID_ARGUMENT, wrong.reason)
        media_type = _media_type_in(dict(scope["headers"]).get(b"content-type", b"").decode("latin-1"))
        media_type = media_type or MediaType.JSON
        body = media_type.write(refusal.status())
        headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": refusal.http_status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def _cors(config: CorsConfig | None) -> CORSConfig | None:
    if config is None:
        return None
    return CORSConfig(
        allow_origins=config.allowed_origins,
        allow_methods=["POST"],
        allow_headers=["content-type", *config.allowed_headers],
        max_age=config.max_age,
        # navigator.sendBeacon always sends with credentials, and so only to where they are wanted.
        allow_credentials=all(map(_names_somebody, config.allowed_origins)),
    )


def _names_somebody(origin: str) -> bool:
    """Tell whether an allowed origin, which may hold ``*``, is more than any page there is."""
    host = origin.rpartition("://")[2].partition(":")[0]
    return any(character.isalnum() for character in host)


class _RequestError(Exception):
    """A request refused before it became a batch. ``reason`` is what the refusal is counted under."""

    def __init__(self, reason: str, refusal: Refusal, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(refusal.message)
        self.reason = reason
        self.refusal = refusal
        self.headers = headers or {}


class _Turns:
    """What large requests of a listener wait for: several at once would need no less time, and more memory."""

    def __init__(self) -> None:
        self.to_decompress = compression.Gate()
        self.to_transcode = asyncio.Lock()


class _Export:
    """Answers one signal's export requests."""

    def __init__(
        self,
        service: Service,
        setting: str,
        config: HttpConfig,
        consumer: Consumer,
        authenticator: Authenticator | None,
        turns: _Turns,
        *,
        has_pipeline: bool,
    ) -> None:
        self._turns = turns
        self._service = service
        self._limit_setting, self._limit = f"{setting}.max_request_body_size", config.max_request_body_size
        self._strict_json = config.strict_json
        self._consumer = consumer
        self._authenticator = authenticator
        self._has_pipeline = has_pipeline

    @property
    def path(self) -> str:
        return self._service.http_path

    def route(self) -> HTTPRouteHandler:
        @post(self.path, status_code=HTTPStatus.OK, name=f"export {self._service.signal}")
        async def export(request: _Request) -> Response[bytes]:
            return await self.answer(request)

        return export

    async def answer(self, request: _Request) -> Response[bytes]:
        """Answer a request, whatever it is."""
        try:
            if self._authenticator is None:
                return await self._answer(request)
            return await self._authenticate_and_answer(request, self._authenticator)
        except asyncio.CancelledError:
            # Only the server's `stop` cancels a request, after the grace period.
            return _refuse(request, unavailable("the gateway is shutting down; please retry"))

    async def _authenticate_and_answer(self, request: _Request, authenticator: Authenticator) -> Response[bytes]:
        signal = self._service.signal
        try:
            peer = request.client.host if request.client else ""
            grant = authenticator.authenticate(_authorization(request), peer, Scope.INGEST)
            with grant.hold(_announced(request)) as held:
                return await self._answer(request, held)
        except Exception as error:  # an authenticator that fails lets nobody in
            self._consumer.refuse(signal, reason_of(error))
            return _refuse(request, refusal_of(error, signal), _challenge(error))

    async def _answer(self, request: _Request, held: Held = NOTHING_HELD) -> Response[bytes]:
        signal = self._service.signal
        try:
            if not self._has_pipeline:
                raise NoPipelineError(signal.value)
            media_type, batch = await self._receive(request, held)
        except _RequestError as error:
            self._consumer.refuse(signal, error.reason)
            return _refuse(request, error.refusal, error.headers)
        except Exception as error:  # whatever it is, the client must get an answer it can act on
            self._consumer.refuse(signal, reason_of(error))
            return _refuse(request, refusal_of(error, signal))
        try:
            outcome = await self._consumer.accept(batch)
        except Exception as error:
            return _refuse(request, refusal_of(error, signal))
        return Response(media_type.write(self._service.answer(outcome)), media_type=media_type)

    async def _receive(self, request: _Request, held: Held) -> tuple[MediaType, Batch]:
        media_type = media_type_of(request)
        if media_type is None:
            raise _unsupported(
                "unsupported_media_type",
                f"expected the Content-Type {MediaType.PROTOBUF} or {MediaType.JSON}, "
                f"found {request.headers.get('content-type')!r}",
            )
        encoding = request.headers.get("content-encoding", "").strip().lower() or compression.IDENTITY
        if not compression.is_supported(encoding):
            raise _unsupported(
                "unsupported_encoding",
                f"expected a Content-Encoding out of {compression.SUPPORTED}, found {encoding!r}",
                {"accept-encoding": compression.SUPPORTED},
            )
        if not ("content-length" in request.headers or "transfer-encoding" in request.headers):
            message = "the request does not say how long its body is; send Content-Length, also when that is 0"
            refusal = Refusal(HTTPStatus.LENGTH_REQUIRED, grpc.StatusCode.INVALID_ARGUMENT, message)
            raise _RequestError("malformed", refusal)
        own_telemetry = OWN_TELEMETRY_HEADER in request.headers
        body = await self._read(request, held)
        try:
            payload, left_out = await self._decode(media_type, encoding, body, held, body_of(request.scope))
        except compression.DecompressedTooLargeError:
            raise self._too_large("decompressed ") from None
        except TooLargeError as error:
            raise _RequestError("too_large", too_large(str(error))) from error
        except MalformedPayloadError as error:
            raise _RequestError("malformed", malformed(str(error), error.violations)) from error
        peer = request.client.host if request.client else ""
        batch = await Batch.received(
            self._service.signal, payload, own_telemetry=own_telemetry, left_out=left_out, peer=peer
        )
        body_of(request.scope).release()  # from here on the pipeline counts the payload
        return media_type, batch

    async def _read(self, request: _Request, held: Held) -> bytes:
        if _announced(request) > self._limit:
            raise self._too_large()
        chunks: list[bytes] = []
        size, more = 0, True
        while more:
            message: Any = await request.receive()
            if message["type"] == "http.disconnect":
                raise _RequestError("disconnected", malformed("the connection was closed within the body"))
            chunk = message["body"]
            size += len(chunk)
            if size > self._limit:
                raise self._too_large()
            if size > _announced(request):
                held.resize(size)
            chunks.append(chunk)
            more = message["more_body"]
        return b"".join(chunks)

    async def _decode(self, media_type: MediaType, encoding: str, body: bytes, held: Held, counted: Body) -> Transcoded:
        """Return the protobuf payload of a body. What is large, compressed or not, is worked off in threads."""

        def count(size: int) -> None:
            if not counted.take(size):
                raise OverloadedError("too many requests are arriving at once; please retry")

        limit = self._limit if held.most is None else min(self._limit, held.most)
        try:
            plain = await self._turns.to_decompress.decompress(body, encoding, limit, count)
        except compression.DecompressedTooLargeError:
            if limit < self._limit:
                held.resize(limit + 1)  # raises
            raise
        held.resize(len(plain))
        if media_type is MediaType.PROTOBUF:
            return Transcoded(plain, ACCEPTED)
        transcode = functools.partial(to_protobuf, self._service.signal, plain, strict=self._strict_json)
        if len(plain) < compression.OFFLOAD_BYTES:
            return transcode()
        if len(plain) < _LARGE_JSON:
            return await asyncio.to_thread(transcode)
        async with self._turns.to_transcode:
            return await asyncio.to_thread(transcode)

    def _too_large(self, which: str = "") -> _RequestError:
        message = (
            f"the {which}body is larger than {self._limit} bytes; send smaller batches or set {self._limit_setting}"
        )
        refusal = Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, grpc.StatusCode.RESOURCE_EXHAUSTED, message)
        return _RequestError("too_large", refusal)


def _announced(request: _Request) -> int:
    """Return the length that the body is said to have; 0 when that is not said."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0


def _authorization(request: _Request) -> str | None:
    values = request.headers.getall("authorization", [])
    if len(values) > 1:
        raise UnauthenticatedError("the request has several authorization headers; send one", presented=True)
    return values[0] if values else None


def _challenge(error: Exception) -> dict[str, str]:
    """Return the headers by which HTTP clients are asked for a token (RFC 6750, 3)."""
    match error:
        case UnauthenticatedError(presented=False):
            return {"www-authenticate": 'Bearer realm="obs-hub"'}
        case UnauthenticatedError():
            return {"www-authenticate": 'Bearer realm="obs-hub", error="invalid_token"'}
        case PermissionDeniedError():
            challenge = f'Bearer realm="obs-hub", error="insufficient_scope", scope="{Scope.INGEST}"'
            return {"www-authenticate": challenge}
        case _:
            return {}


def _unsupported(reason: str, message: str, headers: Mapping[str, str] | None = None) -> _RequestError:
    refusal = Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, grpc.StatusCode.INVALID_ARGUMENT, message)
    return _RequestError(reason, refusal, headers)


def _refuse(request: _Request, refusal: Refusal, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    media_type = media_type_of(request) or MediaType.JSON
    all_headers = dict(headers or {})
    if refusal.retry_after_header is not None:
        all_headers["retry-after"] = refusal.retry_after_header
    return Response(
        media_type.write(refusal.status()),
        status_code=refusal.http_status,
        media_type=media_type,
        headers=all_headers,
    )


def _answer_http_exception(request: _Request, error: HTTPException) -> Response[bytes]:
    """Answer what Litestar refuses by itself: an unknown path, a wrong method."""
    paths = ", ".join(service.http_path for service in SERVICES.values())
    messages = {
        HTTPStatus.NOT_FOUND: f"no such path: {request.url.path}; OTLP has {paths}",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not allowed; OTLP uses POST",
    }
    status = HTTPStatus(error.status_code)
    refusal = Refusal(status, grpc.StatusCode.UNIMPLEMENTED, messages.get(status, error.detail))
    return _refuse(request, refusal, error.headers)
