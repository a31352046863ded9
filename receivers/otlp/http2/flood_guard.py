"""What a client may ask of an HTTP/2 connection before it is taken for an attack.

The bytes are looked through before the HTTP/2 library sees them, for it first gathers and works off whatever arrives.
Only the nine bytes at the head of each frame are read here.

Source: RFC 9113, 4.1 "Frame Format" and 10.5 "Denial-of-Service Considerations".
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from h2.errors import ErrorCodes

MAX_FRAME_SIZE = 2**14
"""Bytes of the longest frame taken: HTTP/2's initial value, which clients have to keep to."""

MAX_HEADER_BLOCK = 128 * 1024
"""Bytes of the longest header block taken, as sent. Headers that are merely too long should be refused, not cost the
connection, so they must be read."""

_PREFACE_SIZE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
_HEAD = struct.Struct(">BHBBL")  # length (its first byte apart), type, flags, stream

_DATA, _HEADERS, _CONTINUATION = 0, 1, 9
_END_STREAM, _END_HEADERS, _PADDED = 1, 4, 8
_MOST_PADDING = 256  # with the byte that says how much

_CREDIT = 4_000.0
_CREDIT_PER_SECOND = 200.0
_CREDIT_PER_ANSWER = 32.0
_BYTES_PER_CREDIT = 256
_HEADER_BYTES_PER_CREDIT = 1024  # a thousand requests in flight, each with a long token, are still no attack


class AttackError(Exception):
    """The client does what no client has a reason to do. ``code`` is what the connection is ended with."""

    def __init__(self, code: ErrorCodes, why: str) -> None:
        super().__init__(why)
        self.code = code


class FloodGuard:
    """Counts what the frames of one connection cost. ``clock`` is in seconds.

    A frame that brings nothing on has to be paid for: pings, settings, resets, windows opened bit by bit, headers
    chopped up, crumbs of data, padding, data for requests that are over. There is credit for four thousand, which comes
    back with time, and faster with requests that are answered, so that a client that sends telemetry never runs out of
    it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._credit = _CREDIT
        self._counted = clock()
        self._skip = _PREFACE_SIZE
        self._head = b""
        self._header_block = 0

    def answered(self) -> None:
        """A request was answered."""
        self._credit = min(_CREDIT, self._credit + _CREDIT_PER_ANSWER)

    def arrived(self, size: int) -> None:
        """Hear how much arrived at once, before `see`. Raises `AttackError`.

        A crumb from within a frame takes as much work as a whole one.
        """
        if size < _BYTES_PER_CREDIT and size < self._skip:
            self.pay(1)

    def see(self, data: bytes) -> None:
        """Look through what arrived. Raises `AttackError`."""
        at, end = self._skip, len(data)
        if self._head:
            data = self._head + data
            at, end, self._head = 0, len(data), b""
        while at + _HEAD.size <= end:
            high, low, kind, flags, _ = _HEAD.unpack_from(data, at)
            length = high << 16 | low
            self._frame(kind, flags, length)
            at += _HEAD.size + length
        if at < end:
            self._head = data[at:]
        self._skip = max(0, at - end)

    def _frame(self, kind: int, flags: int, length: int) -> None:
        if length > MAX_FRAME_SIZE:
            raise AttackError(ErrorCodes.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
        if kind == _DATA:
            # How much of a frame is padding stands behind its head, so it is taken for as much as it may be.
            brings = length - _MOST_PADDING if flags & _PADDED else length
            if brings < _BYTES_PER_CREDIT and not flags & _END_STREAM:
                self.pay(1)
            return
        if kind in (_HEADERS, _CONTINUATION):
            self._header_block += length
            if self._header_block > MAX_HEADER_BLOCK:
                raise AttackError(ErrorCodes.ENHANCE_YOUR_CALM, f"more than {MAX_HEADER_BLOCK} bytes of headers")
            if flags & _END_HEADERS:
                self._header_block = 0
        self.pay(1 + length // (_HEADER_BYTES_PER_CREDIT if kind == _HEADERS else _BYTES_PER_CREDIT))

    def pay(self, cost: int) -> None:
        """Take what something costs. Raises `AttackError` when that is more than there is credit for."""
        self._credit -= cost
        if self._credit >= 0:
            return
        now = self._clock()
        self._credit = min(_CREDIT, self._credit + (now - self._counted) * _CREDIT_PER_SECOND)
        self._counted = now
        if self._credit < 0:
            raise AttackError(ErrorCodes.ENHANCE_YOUR_CALM, "too many frames that bring nothing on")
