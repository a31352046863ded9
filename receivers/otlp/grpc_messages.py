"""gRPC's words on the wire: messages with their prefix and compression, and the status at the end.

Source: gRPC's ``doc/PROTOCOL-HTTP2.md`` and ``doc/compression.md``.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes

import grpc

from gateway.component import MalformedPayloadError
from receivers.otlp import compression
from receivers.otlp.http2.stream import Headers
from receivers.otlp.refusal import Refusal, malformed, overloaded

_PREFIX = struct.Struct(">BL")
"""Whether the message is compressed (1 or 0), and its length."""

_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")

_MAX_QUOTED = 2048
"""Bytes of a percent-encoded message. gRPC's core refuses trailers from 8 KiB on, at random at first, whatever status
they carry; `refusal.MAX_MESSAGE` characters in the details take 5.5 KiB at most."""

OK: Headers = ((b"grpc-status", b"0"),)
"""The trailers of a call that went well."""


class StatusError(Exception):
    """A call that does not end with OK.

    ``details`` is a serialized ``google.rpc.Status``; ``reason`` is what the refusal is counted under, where it is not
    counted elsewhere.
    """

    def __init__(
        self, code: grpc.StatusCode, message: str, *, details: bytes | None = None, reason: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.reason = reason

    @classmethod
    def of(cls, refusal: Refusal, reason: str | None = None) -> StatusError:
        """Say a refusal in gRPC's terms. A client repeats ``RESOURCE_EXHAUSTED`` only for the RetryInfo in details."""
        details = refusal.status().SerializeToString()
        return cls(refusal.grpc_code, refusal.message, details=details, reason=reason)

    def trailers(self) -> Headers:
        """Return the status as trailers."""
        trailers = [
            (b"grpc-status", str(self.code.value[0]).encode()),
            (b"grpc-message", _quoted(self.message)),
        ]
        if self.details is not None:
            # Unpadded, as gRPC's doc/PROTOCOL-HTTP2.md asks of whoever sends binary values; some clients take no other.
            trailers.append((b"grpc-status-details-bin", base64.b64encode(self.details).rstrip(b"=")))
        return tuple(trailers)


def _quoted(message: str) -> bytes:
    """Percent-encode a message, as much of it as there is room for. The details have all of it."""
    quoted = quote(message, safe=_PRINTABLE)
    if len(quoted) > _MAX_QUOTED:
        # Neither an escape nor a character is cut in two.
        whole = re.sub(r"%.?$", "", quoted[:_MAX_QUOTED])
        quoted = quote(unquote_to_bytes(whole).decode(errors="ignore"), safe=_PRINTABLE)
    return quoted.encode()


def framed(message: bytes) -> bytes:
    """Return a message of an answer, which is never compressed, with its prefix."""
    return _PREFIX.pack(0, len(message)) + message


def encoding_of(name: str) -> str:
    """Check the value of ``grpc-encoding``. Raises `StatusError`, as the specification has it: ``UNIMPLEMENTED``."""
    if not name:
        return compression.IDENTITY
    if not compression.is_supported(name):
        raise StatusError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"expected a grpc-encoding out of {compression.SUPPORTED}, found {name[:50]!r}",
            reason="unsupported_encoding",
        )
    return name


@dataclass(slots=True)
class Bounds:
    """How much of messages is kept: ``limit`` bytes of one, compressed or not, ``in_all`` of all that arrive or that
    nobody has taken over yet.

    ``setting`` is what sets the limit, for error messages. One of it is shared by all calls of a server.
    """

    limit: int
    in_all: int
    setting: str
    held: int = 0
    gate: compression.Gate = field(default_factory=compression.Gate)

    def too_large(self, which: str = "") -> StatusError:
        """Make the error for a message beyond the limit, which has no use for being sent again."""
        return StatusError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"the {which}message is larger than {self.limit} bytes; send smaller batches or set {self.setting}",
            reason="too_large",
        )


class Request:
    """The one message of a request, while it arrives. Release it in the end, whatever came of it."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._pieces: list[bytes] = []
        self._size = 0
        self._held = 0
        self._compressed = 0
        self._expected: int | None = None

    def add(self, data: bytes) -> bool:
        """Take what has arrived. Returns whether that told how long it is. Raises `StatusError` when it is too much."""
        size, bounds = len(data), self._bounds
        self._pieces.append(data)
        self._size += size
        self._held += size
        bounds.held += size
        is_told = False
        if self._expected is None and self._size >= _PREFIX.size:
            beginning = b"".join(self._pieces)
            self._compressed, length = _PREFIX.unpack_from(beginning)
            self._pieces = [beginning[_PREFIX.size :]]
            if length > bounds.limit:
                raise bounds.too_large()
            self._expected = _PREFIX.size + length
            is_told = True
        if self._expected is not None and self._size > self._expected:
            raise _malformed("the call carries more than one message")
        if bounds.held > bounds.in_all:
            raise _overflow()
        return is_told

    def _hold(self, size: int) -> None:
        self._held += size
        self._bounds.held += size

    def _check_room(self) -> None:
        if self._bounds.held > self._bounds.in_all:
            raise _overflow()

    @property
    def length(self) -> int:
        """How long the message is said to be; as long as that is not known, 0."""
        return 0 if self._expected is None else self._expected - _PREFIX.size

    async def message(self, encoding: str, most: int | None = None) -> bytes:
        """Return the message, decompressed, once all has arrived. Raises `StatusError`.

        ``most`` is what it may be decompressed where that is less than the limit; `DecompressedTooLargeError` then.
        """
        if self._size == 0:
            raise _malformed("the call carries no request")
        if self._size != self._expected:
            raise _malformed(f"the message is truncated: it ends after {self._size} bytes, too early")
        body = b"".join(self._pieces)
        if self._compressed == 0:
            return body
        if self._compressed != 1 or encoding == compression.IDENTITY:
            raise _compressed_somehow()
        try:
            limit = self._bounds.limit if most is None else min(self._bounds.limit, most)
            return await self._bounds.gate.decompress(body, encoding, limit, self._decompressed)
        except compression.DecompressedTooLargeError:
            if limit < self._bounds.limit:
                raise
            raise self._bounds.too_large("decompressed ") from None
        except MalformedPayloadError as error:
            raise _malformed(str(error)) from error

    def _decompressed(self, size: int) -> None:
        self._hold(size)
        self._check_room()

    def release(self) -> None:
        """Drop what is kept, and count it no longer. Harmless when repeated."""
        self._bounds.held -= self._held
        self._pieces.clear()
        self._size = self._held = 0


class Messages:
    """The messages of a request that has many, as they arrive. Each is at most ``limit`` bytes, compressed or not."""

    def __init__(self, limit: int, encoding: str) -> None:
        self._limit = limit
        self._encoding = encoding
        self._rest = bytearray()

    def add(self, data: bytes) -> Iterator[bytes]:
        """Take what has arrived, and yield each message that is whole. Raises `StatusError`."""
        self._rest += data
        while len(self._rest) >= _PREFIX.size:
            compressed, length = _PREFIX.unpack_from(self._rest)
            if length > self._limit:
                raise self._too_large()
            end = _PREFIX.size + length
            if len(self._rest) < end:
                return
            body = bytes(self._rest[_PREFIX.size : end])
            del self._rest[:end]
            yield self._decompressed(body) if compressed else body

    def end(self) -> None:
        """Raise `StatusError` when the last message is not whole."""
        if self._rest:
            raise _malformed("the last message is truncated")

    def _decompressed(self, body: bytes) -> bytes:
        if self._encoding == compression.IDENTITY:
            raise _compressed_somehow()
        try:
            return compression.decompress(body, self._encoding, self._limit)
        except compression.DecompressedTooLargeError:
            raise self._too_large() from None
        except MalformedPayloadError as error:
            raise _malformed(str(error)) from error

    def _too_large(self) -> StatusError:
        return StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"a message has at most {self._limit} bytes here")


def _overflow() -> StatusError:
    return StatusError.of(overloaded("too many requests are arriving at once; please retry"), "overloaded")


def _compressed_somehow() -> StatusError:
    """Make the error for a client that contradicts itself, as gRPC's doc/compression.md has it."""
    message = "the message is said to be compressed, but not how (grpc-encoding)"
    return StatusError(grpc.StatusCode.INTERNAL, message, reason="malformed")


def _malformed(message: str) -> StatusError:
    return StatusError.of(malformed(message), "malformed")
