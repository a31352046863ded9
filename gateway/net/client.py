"""A client of OTLP that sends what is serialized already, and says what the other end made of it.

For exporters and for emitters that need the answer: the SDK's exporters build their requests themselves, and do not
tell a batch that may be sent again from one that must not.

Source of the rules: OTLP specification, "Failures", "OTLP/gRPC Throttling", "OTLP/HTTP Response".

What is not the protocol's answer is no acknowledgement, whatever its status: a captive portal, a proxy's page or a
wrong URL answer 200, too, and a batch that they "took" would be gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import functools
import gzip
import json
import re
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import grpc
import grpc.aio
import httpx
import zstandard
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from gateway.component.batch import Signal
from gateway.component.errors import (
    DeliveryError,
    OverloadedError,
    RefusedError,
    TimedOutError,
    TooLargeForDestinationError,
    UnavailableError,
)
from gateway.component.interfaces import ACCEPTED, Outcome
from gateway.net.destination import Compression, Destination
from gateway.net.proxies import channel_options, is_local
from gateway.net.reloading_client import ReloadingClient
from gateway.otlp.services import SERVICES

_OFFLOAD_BYTES = 64 * 1024
"""Payloads from this size on are compressed in a thread, so that they do not hold up everything else."""

MISCONFIGURED_SECONDS = 30.0
"""After how long to look whether the destination was set right. It is not the batch that it refused, so that waits."""

NO_ANSWER = (httpx.HTTPError, ssl.SSLError)
"""What httpx raises when there is no answer. A TLS alert that comes after the handshake, as from a server that wants a
client certificate, it hands on as it is."""

_RETRYABLE = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}
_MISCONFIGURED = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
}
_MISCONFIGURED_HTTP = {401, 403, 404, 405, 407}
_RETRYABLE_HTTP = {429, 502, 503, 504}
_BY_SIZE = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.INVALID_ARGUMENT}
_SIZE = re.compile(r"larger than (max|\d)|too (large|big)|exceeds (the )?max\w* size|max_recv_msg_size", re.IGNORECASE)
"""How gRPC's servers in Go, C++, Java and Python, Loki, Tempo and the Collector word it."""
_NOT_GRPC = ("Stream removed", "Received http2 header with status", "Missing :status", "Bad or invalid content-type")
"""What gRPC's client says of an answer that is HTTP/2 and no gRPC, such as a page."""

_STATUS_TAGS = (b"\x08", b"\x12")
_PROTOBUF = ("application/x-protobuf", "application/protobuf", "")
_JSON = ("application/json", "text/plain", "application/octet-stream", "")
"""Types of answers; the last ones are what servers write that do not think of it."""
_MAX_ERROR = 500


class OtlpClient(Protocol):
    """Sends to one destination."""

    async def send(self, signal: Signal, payload: bytes, seconds: float = 0.0) -> Outcome:
        """Send a serialized ``Export*ServiceRequest``; return what the other end rejected of it.

        ``seconds`` is how long that may take, where it is longer than the destination's ``timeout``.

        Raises `RefusedError` for what must not be sent again, of which `TooLargeForDestinationError` may be in parts,
        and `UnavailableError` for what may be; the latter also where the destination is wrong (credentials, path, what
        answers is no OTLP) rather than the request, for that can be mended.
        """
        ...

    async def close(self) -> None:
        """Release the connection."""
        ...


def connect(to: Destination) -> OtlpClient:
    """Make the client of a destination. Nothing is sent yet.

    Raises `OSError` when a certificate cannot be read or used. When the files of its certificates change, they are
    read again.
    """
    return _GrpcClient(to) if to.protocol == "grpc" else _HttpClient(to)


def _certificate_files(to: Destination) -> tuple[Path | None, ...]:
    """Return the files that a connection to a destination depends on: none when it is plain text."""
    return (to.ca_file, to.cert_file, to.key_file) if _is_tls(to) else ()


def _is_tls(to: Destination) -> bool:
    """Tell whether a destination is spoken to over TLS."""
    return to.endpoint.startswith("https://")


def check_certificates(to: Destination) -> None:
    """Raise `OSError` when a certificate of a destination cannot be read or used."""
    if _is_tls(to):
        _ssl_context(to)


def _ssl_context(to: Destination) -> ssl.SSLContext:
    """Make the context by which a client checks the server, and presents its own certificate where it has one.

    Raises `OSError` when a certificate cannot be read or used.
    """
    try:
        context = ssl.create_default_context(cafile=None if to.ca_file is None else str(to.ca_file))
        if to.cert_file is not None:
            context.load_cert_chain(to.cert_file, to.key_file)
    except OSError as error:
        files = ", ".join(str(file) for file in (to.ca_file, to.cert_file, to.key_file) if file is not None)
        raise OSError(f"the certificates for {to.endpoint} ({files}) cannot be used: {error}") from error
    return context


class _Channel:
    """A gRPC channel, and what is called on it."""

    def __init__(self, to: Destination) -> None:
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", 4 * 2**20),
            # Whoever sends decides when to try again; a connection must not wait for longer than that.
            ("grpc.max_reconnect_backoff_ms", 5_000),
            # So seldom that no server minds. With it comes what matters: a connection whose other end is gone without a
            # word is given up when 20 seconds of sending bring no acknowledgement, not after the kernel's quarter hour.
            ("grpc.keepalive_time_ms", 300_000),
        ]
        options += channel_options(to.endpoint)
        compression = grpc.Compression.Gzip if to.compression == "gzip" else grpc.Compression.NoCompression
        target = urlsplit(to.endpoint).netloc
        if _is_tls(to):
            _ssl_context(to)  # gRPC would say at the first connection only what is wrong with them, and never clearly
            files = (to.ca_file, to.key_file, to.cert_file)
            credentials = grpc.ssl_channel_credentials(*(None if file is None else file.read_bytes() for file in files))
            self._channel = grpc.aio.secure_channel(target, credentials, options, compression)
        else:
            self._channel = grpc.aio.insecure_channel(target, options, compression)
        self.calls: dict[Signal, Any] = {
            signal: self._channel.unary_unary(f"/{service.grpc_name}/Export") for signal, service in SERVICES.items()
        }

    async def close(self) -> None:
        await self._channel.close()


class _GrpcClient:
    def __init__(self, to: Destination) -> None:
        self._to = to
        self._metadata = tuple(to.headers.items())
        self._channel = ReloadingClient(functools.partial(_Channel, to), _Channel.close, _certificate_files(to))

    async def send(self, signal: Signal, payload: bytes, seconds: float = 0.0) -> Outcome:
        timeout = max(self._to.timeout, seconds)
        try:
            async with self._channel.use() as channel:
                answer = await channel.calls[signal](payload, timeout=timeout, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise _from_grpc(self._to.endpoint, error) from None
        return _outcome(signal, answer, self._to.endpoint)

    async def close(self) -> None:
        await self._channel.close()


class _HttpClient:
    def __init__(self, to: Destination) -> None:
        self._to = to
        self._client = http_client(to, {**to.headers, "content-type": "application/x-protobuf"})

    async def send(self, signal: Signal, payload: bytes, seconds: float = 0.0) -> Outcome:
        headers = {} if self._to.compression == "none" else {"content-encoding": self._to.compression}
        body = await compressed(payload, self._to.compression)
        try:
            async with self._client.use() as client:
                response = await client.post(
                    self._to.endpoint, content=body, headers=headers, timeout=max(self._to.timeout, seconds)
                )
        except NO_ANSWER as error:
            raise unreachable(self._to.endpoint, error) from None
        if response.is_success:
            return acknowledged(signal, response, self._to.endpoint)
        raise _from_http(self._to.endpoint, response)

    async def close(self) -> None:
        await self._client.close()


def http_client(to: Destination, headers: Mapping[str, str]) -> ReloadingClient[httpx.AsyncClient]:
    """Make an HTTP client of a destination that sends these headers with each request.

    Raises `OSError` when a certificate cannot be read or used.
    """

    def make() -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=_ssl_context(to) if _is_tls(to) else True,
            timeout=to.timeout,
            headers=headers,
            trust_env=not is_local(to.endpoint),
        )

    return ReloadingClient(make, httpx.AsyncClient.aclose, _certificate_files(to))


def unreachable(endpoint: str, error: Exception) -> UnavailableError:
    """Return what it means that there is no answer."""
    message = f"{endpoint}: {str(error) or type(error).__name__}"
    slow = isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout)
    return TimedOutError(message) if slow else UnavailableError(message)


def is_too_large(text: str) -> bool:
    """Tell whether a refusal speaks of the size of a message: servers that stand behind gRPC have no code for it."""
    return _SIZE.search(text) is not None


async def compressed(payload: bytes, how: Compression) -> bytes:
    """Return a payload compressed, without holding up the event loop for long."""
    if how == "none":
        return payload
    if len(payload) < _OFFLOAD_BYTES:
        return _compress(payload, how)
    return await asyncio.to_thread(_compress, payload, how)


def _compress(payload: bytes, how: Compression) -> bytes:
    return gzip.compress(payload, compresslevel=6) if how == "gzip" else zstandard.compress(payload)


def retry_after(response: httpx.Response, otherwise: float = 1.0) -> float:
    """Return the seconds that an answer's ``Retry-After`` asks for: a number or a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    date = email.utils.parsedate_tz(value)
    try:
        return otherwise if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())
    except (ValueError, OverflowError):  # a year that no calendar has
        return otherwise


def _from_grpc(endpoint: str, error: grpc.aio.AioRpcError) -> DeliveryError:
    code = error.code()
    message = f"{endpoint} answers {code.name}: {_clip(error.details() or 'without a reason')}"
    pause = _retry_info(error)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TimedOutError(message, 1.0 if pause is None else pause)
    if code in _BY_SIZE and pause is None and is_too_large(error.details() or ""):
        return TooLargeForDestinationError(message)
    if code in _RETRYABLE:
        return UnavailableError(message, 1.0 if pause is None else pause)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and pause is not None:
        return OverloadedError(message, pause)
    if code in _MISCONFIGURED:
        return UnavailableError(message, MISCONFIGURED_SECONDS)
    if code is grpc.StatusCode.UNKNOWN and (error.details() or "").startswith(_NOT_GRPC):
        return _no_otlp(endpoint, error.details() or "")
    return RefusedError(message)


def _retry_info(error: grpc.aio.AioRpcError) -> float | None:
    """Return the seconds that a ``RetryInfo`` among an error's details asks for."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            try:
                for detail in Status.FromString(value).details:
                    info = RetryInfo()
                    if detail.Is(RetryInfo.DESCRIPTOR) and detail.Unpack(info):  # pyright: ignore[reportArgumentType]
                        return float(info.retry_delay.ToMicroseconds() / 1e6)
            except DecodeError:
                return None
    return None


def _from_http(endpoint: str, response: httpx.Response) -> DeliveryError:
    message = f"{endpoint} answers {explained(response)}"
    if response.status_code == 413:
        return TooLargeForDestinationError(message)
    if response.status_code == 429:
        return OverloadedError(message, retry_after(response))
    if response.status_code in _RETRYABLE_HTTP:
        return UnavailableError(message, retry_after(response))
    if is_misconfigured(response):
        return UnavailableError(message, MISCONFIGURED_SECONDS)
    return RefusedError(message)


def is_misconfigured(response: httpx.Response) -> bool:
    """Tell whether an answer speaks of how the destination was set rather than of what was sent."""
    return response.status_code in _MISCONFIGURED_HTTP or response.is_redirect


def explained(response: httpx.Response) -> str:
    """Return the status of an answer and its reason: the message of a ``google.rpc.Status``, or the body as text."""
    reason = response.text.strip() or "without a reason"
    is_protobuf = response.headers.get("content-type", "").startswith("application/x-protobuf")
    # Loki answers with a Status under whatever type. It begins with a byte that no text begins with.
    if is_protobuf or response.content[:1] in _STATUS_TAGS:
        try:
            reason = str(Status.FromString(response.content).message)
        except DecodeError:
            reason = "an answer that is not OTLP"
    return f"{response.status_code} {response.reason_phrase}: {_clip(reason)}"


def _clip(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_ERROR else text[: _MAX_ERROR - 1] + "…"


def acknowledged(signal: Signal, response: httpx.Response, endpoint: str) -> Outcome:
    """Return what a 2xx means: an acknowledgement, if it is OTLP's.

    The specification wants 200 with the response in the request's own content type. Real servers leave the body out
    (which is how protobuf writes an empty response), with or without a type, and answer 202 or 204 then; some write
    ``{}`` as JSON whatever they were sent.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    content = response.content
    if not content and kind in (*_PROTOBUF, *_JSON):
        return ACCEPTED
    if kind in _JSON and content.lstrip()[:1] == b"{":
        with contextlib.suppress(ValueError, ParseError):
            found = json.loads(content)
            # Fields that nobody knows are to be ignored; an object of nothing else is somebody else's.
            if not found or found.keys() & {"partialSuccess", "partial_success"}:
                return _told(signal, ParseDict(found, SERVICES[signal].response(), ignore_unknown_fields=True))
    elif kind in _PROTOBUF:
        return _outcome(signal, content, endpoint)
    raise _no_otlp(endpoint, f"{response.status_code} with {kind or 'a body without a type'}: {_clip(response.text)}")


def _no_otlp(endpoint: str, what: str) -> UnavailableError:
    return UnavailableError(
        f"{endpoint} answers as no OTLP endpoint does, so the batch does not count as delivered ({what}); look whether "
        "the endpoint is the right one, and whether a proxy or a captive portal stands before it",
        MISCONFIGURED_SECONDS,
    )


def _outcome(signal: Signal, answer: bytes | None, endpoint: str) -> Outcome:
    """Read an ``Export*ServiceResponse``. Raises `UnavailableError` when it is none."""
    try:
        if answer is None:  # what gRPC's client gives for an OK without a message
            raise DecodeError
        response: Any = SERVICES[signal].response.FromString(answer)
    except DecodeError:
        raise _no_otlp(endpoint, f"its body is no {SERVICES[signal].response.DESCRIPTOR.name}") from None
    return _told(signal, response)


def _told(signal: Signal, response: Any) -> Outcome:
    service = SERVICES[signal]
    partial = response.partial_success
    rejected = getattr(partial, service.rejected_field)
    return Outcome(rejected, partial.error_message) if rejected or partial.error_message else ACCEPTED
