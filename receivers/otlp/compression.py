"""Decompression of request bodies, bounded in memory.

A body is fed to its decompressor in small slices, and what has come out is measured after each, so that a
decompression bomb costs no more than the limit and what one slice can expand to (a few MiB). Snappy and lz4 are
decompressed in one go, into a buffer that is no larger than the limit.

The content codings are those of the OpenTelemetry Collector's HTTP client (``confighttp``), by its names for them.
"""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import cramjam
import zstandard

from gateway.component import MalformedPayloadError


class DecompressedTooLargeError(Exception):
    """A body that decompresses to more than the limit."""


class _Member(Protocol):
    """Decompresses one gzip member, zlib stream or zstd frame."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


@dataclass(slots=True, frozen=True)
class _Format:
    member: Callable[[], _Member]
    error: type[Exception]
    slice_size: int


class _Zstd(threading.local):
    """Decompresses zstd. All objects that one decompressor makes share its state, so each thread has one of its own."""

    def __init__(self) -> None:
        # RFC 9659: a zstd content coding needs no window above 8 MiB; libzstd would otherwise allocate up to 128 MiB at
        # once.
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=8 * 2**20)

    def member(self) -> _Member:
        return self.decompressor.decompressobj()


_ZSTD = _Zstd()

# The slice sizes keep the growth by one slice at 4 MiB (deflate expands up to 1032 times) and 8 MiB (four bytes of
# zstd can stand for a block of 128 KiB).
_GZIP = _Format(lambda: zlib.decompressobj(wbits=16 + zlib.MAX_WBITS), zlib.error, 4096)
_ZLIB = _Format(lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS), zlib.error, 4096)
_FORMATS = {
    "gzip": _GZIP,
    "x-gzip": _GZIP,  # RFC 9110, 8.4.1.3: a recipient should consider it equivalent to gzip
    "deflate": _ZLIB,
    "zlib": _ZLIB,
    "zstd": _Format(_ZSTD.member, zstandard.ZstdError, 256),
}

# The stream identifier, the first chunk of the snappy framing format.
_SNAPPY_FRAMED = b"\xff\x06\x00\x00sNaPpY"

# An output buffer is cleared before it is used, so one for a small body should be small: lz4, which compresses better
# than snappy, makes of one byte at most 255.
_MOST_EXPANSION = 256

_NO_ROOM = "failed to write whole buffer"
"""What cramjam says when the output does not fit; it has no error of its own for that."""

IDENTITY = "identity"
"""The content coding of a body that is not compressed."""

OFFLOAD_BYTES = 64 * 1024
"""What is as large as this, as it came or decompressed, is worked off in threads, so that it holds up nobody."""

SUPPORTED = "gzip, deflate, zlib, zstd, snappy, x-snappy-framed, lz4"
"""The content codings taken, as the ``Accept-Encoding`` header lists them."""


def is_supported(encoding: str) -> bool:
    """Tell whether `decompress` knows the content coding, given in lower case."""
    return encoding == IDENTITY or encoding in _FORMATS or encoding in _AT_ONCE


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """Return the decompressed body. Several gzip members, zstd or lz4 frames in a row give their joined contents.

    ``limit`` is in bytes, of the result. Raises `DecompressedTooLargeError` beyond it and `MalformedPayloadError` for
    a body that is truncated or not of that encoding.
    """
    if encoding == IDENTITY:
        if len(body) > limit:
            raise DecompressedTooLargeError
        return body
    if encoding in _FORMATS:
        return _decompress_in_slices(body, encoding, limit)
    try:
        return _AT_ONCE[encoding](body, limit)
    except cramjam.DecompressionError as error:
        raise MalformedPayloadError(f"the body is not valid {encoding}, or truncated: {error}") from error


class Gate:
    """Lets few bodies at a time be decompressed in threads, for all that share it.

    What comes out is counted before the next may begin: otherwise what many connections send, each within its bounds,
    would be there all at once.
    """

    def __init__(self) -> None:
        self._gate = asyncio.Semaphore(_AT_A_TIME)

    async def decompress(self, body: bytes, encoding: str, limit: int, count: Callable[[int], None]) -> bytes:
        """Do as `decompress` does, in a thread where it may take long: a small body may be a great deal decompressed.

        ``count`` is told how long the result is, and may raise; of what was not compressed it hears nothing.
        """
        if encoding == IDENTITY:
            return decompress(body, encoding, limit)
        if len(body) < OFFLOAD_BYTES:
            try:
                plain = decompress(body, encoding, min(limit, 4 * OFFLOAD_BYTES))
            except DecompressedTooLargeError:
                if limit <= 4 * OFFLOAD_BYTES:
                    raise
            else:
                count(len(plain))
                return plain
        async with self._gate:
            plain = await asyncio.to_thread(decompress, body, encoding, limit)
            count(len(plain))
            return plain


_AT_A_TIME = 4


def _decompress_in_slices(body: bytes, encoding: str, limit: int) -> bytes:
    form = _FORMATS[encoding]
    member = form.member()
    chunks: list[bytes] = []
    size = 0
    try:
        for start in range(0, len(body), form.slice_size):
            data = body[start : start + form.slice_size]
            while data:
                if member.eof:
                    member = form.member()
                chunk = member.decompress(data)
                data = member.unused_data
                size += len(chunk)
                if size > limit:
                    raise DecompressedTooLargeError
                chunks.append(chunk)
    except form.error as error:
        raise MalformedPayloadError(f"the body is not valid {encoding}: {error}") from error
    if not member.eof:
        raise MalformedPayloadError(f"the {encoding} body is truncated: it ends after {len(body)} bytes, too early")
    return b"".join(chunks)


def _snappy(body: bytes, limit: int) -> bytes:
    """Decompress snappy's block format, or its framing format, which older Collectors send by the same name."""
    if body.startswith(_SNAPPY_FRAMED):
        return _snappy_framed(body, limit)
    if cramjam.snappy.decompress_raw_len(body) > limit:  # a block begins with the length of its content
        raise DecompressedTooLargeError
    return bytes(cramjam.snappy.decompress_raw(body))


def _snappy_framed(body: bytes, limit: int) -> bytes:
    return _into_buffer(cramjam.snappy.decompress_into, body, limit)


def _lz4(body: bytes, limit: int) -> bytes:
    return _into_buffer(cramjam.lz4.decompress_into, body, limit)


def _into_buffer(decompress_into: Callable[[bytes, bytearray], int], body: bytes, limit: int) -> bytes:
    buffer = bytearray(min(limit, len(body) * _MOST_EXPANSION))
    try:
        size = decompress_into(body, buffer)
    except cramjam.DecompressionError as error:
        if _NO_ROOM in str(error):
            raise DecompressedTooLargeError from error
        raise
    return bytes(memoryview(buffer)[:size])


_AT_ONCE: dict[str, Callable[[bytes, int], bytes]] = {
    "snappy": _snappy,
    "x-snappy-framed": _snappy_framed,
    "lz4": _lz4,
}
