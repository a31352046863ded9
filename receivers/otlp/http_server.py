"""OTLP over HTTP, protobuf and JSON: a Litestar application, served by uvicorn inside the running event loop.

Source of the rules: OTLP specification, "OTLP/HTTP".
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import grpc
import msgspec
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from litestar import Litestar, Request, Response, post
from litestar.config.cors import CORSConfig
from litestar.exceptions import HTTPException, InternalServerException
from litestar.handlers import HTTPRouteHandler

from gateway.pipeline import Batch, Consumer, MalformedPayloadError
from gateway.pipeline.access import Authenticator, PermissionDeniedError, Scope, UnauthenticatedError, reason_of
from gateway.pipeline.http_serving import AppServer
from gateway.pipeline.services import SERVICES, Service
from receivers.otlp import compression
from receivers.otlp.config import OWN_TELEMETRY_HEADER, CorsConfig, HttpConfig
from receivers.otlp.otlp_json import to_protobuf
from receivers.otlp.refusal import Refusal, malformed, refusal_of, unavailable

_Request = Request[Any, Any, Any]

_OFFLOAD_BYTES = 64 * 1024
"""Bodies from this size on are decompressed and transcoded in a thread, so that they do not hold up other requests."""


class MediaType(enum.StrEnum):
    """The two encodings of OTLP/HTTP. A response has its request's."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"

    def write(self, message: Message) -> bytes:
        """Serialize a response message: an ``Export*ServiceResponse`` or a ``google.rpc.Status``."""
        if self is MediaType.JSON:
            return msgspec.json.encode(MessageToDict(message))
        return message.SerializeToString()


_MEDIA_TYPES = {media_type.value: media_type for media_type in MediaType}


def media_type_of(request: _Request) -> MediaType | None:
    """Return the encoding the request says it has, None when that is none of OTLP's. Parameters do not matter."""
    name = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return _MEDIA_TYPES.get(name)


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
        reuse_port: bool,
    ) -> None:
        app = create_app(setting, config, consumer, authenticator)
        super().__init__(setting, config, app, consumer.refuse_connection, reuse_port=reuse_port)


def create_app(
    setting: str, config: HttpConfig, consumer: Consumer, authenticator: Authenticator | None = None
) -> Litestar:
    """Make the application: one POST route for each signal, and every error as a ``google.rpc.Status``."""
    limit_setting, limit = f"{setting}.max_request_body_size", config.max_request_body_size
    return Litestar(
        route_handlers=[
            _Export(service, limit_setting, limit, consumer, authenticator).route() for service in SERVICES.values()
        ],
        exception_handlers={HTTPException: _answer_http_exception},
        cors_config=_cors(config.cors),
        openapi_config=None,
        logging_config=None,  # the gateway configures logging, not this application
        request_max_body_size=None,  # bounded here, with a message that names the setting
    )


def _cors(config: CorsConfig | None) -> CORSConfig | None:
    if config is None:
        return None
    return CORSConfig(
        allow_origins=config.allowed_origins,
        allow_methods=["POST"],
        allow_headers=["content-type", *config.allowed_headers],
        max_age=config.max_age,
    )


class _RequestError(Exception):
    """A request refused before it became a batch. ``reason`` is what the refusal is counted under."""

    def __init__(self, reason: str, refusal: Refusal, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(refusal.message)
        self.reason = reason
        self.refusal = refusal
        self.headers = headers or {}


class _Export:
    """Answers one signal's export requests."""

    def __init__(
        self,
        service: Service,
        limit_setting: str,
        limit: int,
        consumer: Consumer,
        authenticator: Authenticator | None,
    ) -> None:
        self._service = service
        self._limit_setting = limit_setting
        self._limit = limit
        self._consumer = consumer
        self._authenticator = authenticator

    def route(self) -> HTTPRouteHandler:
        @post(self._service.http_path, status_code=HTTPStatus.OK, name=f"export {self._service.signal}")
        async def export(request: _Request) -> Response[bytes]:
            try:
                if self._authenticator is None:
                    return await self._answer(request)
                return await self._authenticate_and_answer(request, self._authenticator)
            except asyncio.CancelledError:
                # Only the server's `stop` cancels a request, after the grace period.
                return _refuse(request, unavailable("the gateway is shutting down; please retry"))

        return export

    async def _authenticate_and_answer(self, request: _Request, authenticator: Authenticator) -> Response[bytes]:
        signal = self._service.signal
        try:
            peer = request.client.host if request.client else ""
            grant = authenticator.authenticate(_authorization(request), peer, Scope.INGEST)
            # A body of unknown length is counted as the longest there may be.
            with grant.hold(_announced(request, self._limit)):
                return await self._answer(request)
        except Exception as error:  # an authenticator that fails lets nobody in
            self._consumer.refuse(signal, reason_of(error))
            return _refuse(request, refusal_of(error, signal), _challenge(error))

    async def _answer(self, request: _Request) -> Response[bytes]:
        signal = self._service.signal
        try:
            media_type, batch = await self._receive(request)
        except _RequestError as error:
            self._consumer.refuse(signal, error.reason)
            return _refuse(request, error.refusal, error.headers)
        except Exception as error:  # whatever it is, the client must get an answer it can act on
            self._consumer.refuse(signal, "internal_error")
            return _refuse(request, refusal_of(error, signal))
        try:
            peer = request.client.host if request.client else ""
            outcome = await self._consumer.accept(dataclasses.replace(batch, peer=peer))
        except Exception as error:
            return _refuse(request, refusal_of(error, signal))
        return Response(media_type.write(self._service.answer(outcome)), media_type=media_type)

    async def _receive(self, request: _Request) -> tuple[MediaType, Batch]:
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
        own_telemetry = OWN_TELEMETRY_HEADER in request.headers
        body = await self._read(request)
        try:
            if len(body) < _OFFLOAD_BYTES:
                return media_type, self._batch(media_type, encoding, body, own_telemetry)
            return media_type, await asyncio.to_thread(self._batch, media_type, encoding, body, own_telemetry)
        except compression.DecompressedTooLargeError:
            raise self._too_large("decompressed ") from None
        except MalformedPayloadError as error:
            raise _RequestError("malformed", malformed(str(error))) from error

    async def _read(self, request: _Request) -> bytes:
        if _announced(request, 0) > self._limit:
            raise self._too_large()
        chunks: list[bytes] = []
        size = 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > self._limit:
                    raise self._too_large()
                chunks.append(chunk)
        except InternalServerException as error:  # Litestar's word for a client that went away
            raise _RequestError("disconnected", malformed("the connection was closed within the body")) from error
        return b"".join(chunks)

    def _batch(self, media_type: MediaType, encoding: str, body: bytes, own_telemetry: bool) -> Batch:
        payload = compression.decompress(body, encoding, self._limit)
        if media_type is MediaType.JSON:
            payload = to_protobuf(self._service.signal, payload)
        return Batch.of(self._service.signal, payload, own_telemetry=own_telemetry)

    def _too_large(self, which: str = "") -> _RequestError:
        message = (
            f"the {which}body is larger than {self._limit} bytes; send smaller batches or set {self._limit_setting}"
        )
        refusal = Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, grpc.StatusCode.RESOURCE_EXHAUSTED, message)
        return _RequestError("too_large", refusal)


def _announced(request: _Request, otherwise: int) -> int:
    """Return the length that the body is said to have."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else otherwise


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
