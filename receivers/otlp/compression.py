"""Decompression of request bodies, bounded in memory.

A body is fed to its decompressor in small slices, and what has come out is measured after each, so that a
decompression bomb costs no more than the limit and what one slice can expand to (a few MiB).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import zstandard

from gateway.pipeline import MalformedPayloadError


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


# RFC 9659: a zstd content coding needs no window above 8 MiB; libzstd would otherwise allocate up to 128 MiB at once.
_ZSTD = zstandard.ZstdDecompressor(max_window_size=8 * 2**20)

# The slice sizes keep the growth by one slice at 4 MiB (deflate expands up to 1032 times) and 8 MiB (four bytes of
# zstd can stand for a block of 128 KiB).
_GZIP = _Format(lambda: zlib.decompressobj(wbits=16 + zlib.MAX_WBITS), zlib.error, 4096)
_FORMATS = {
    "gzip": _GZIP,
    "x-gzip": _GZIP,  # RFC 9110, 8.4.1.3: a recipient should consider it equivalent to gzip
    "deflate": _Format(lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS), zlib.error, 4096),
    "zstd": _Format(_ZSTD.decompressobj, zstandard.ZstdError, 256),
}

IDENTITY = "identity"
"""The content coding of a body that is not compressed."""

SUPPORTED = "gzip, deflate, zstd"
"""The content codings taken, as the ``Accept-Encoding`` header lists them."""


def is_supported(encoding: str) -> bool:
    """Tell whether `decompress` knows the content coding, given in lower case."""
    return encoding == IDENTITY or encoding in _FORMATS


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """Return the decompressed body. Several gzip members or zstd frames in a row give their joined contents.

    ``limit`` is in bytes, of the result. Raises `DecompressedTooLargeError` beyond it and `MalformedPayloadError` for
    a body that is truncated or not of that encoding.
    """
    if encoding == IDENTITY:
        if len(body) > limit:
            raise DecompressedTooLargeError
        return body
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
