"""What a client may ask of an HTTP/2 connection before it is taken for an attack.

The bytes that arrive become frames here, and what a frame costs is counted by the nine bytes at its head: before it is
worked off, and before what it announces has arrived.

Source: RFC 9113, 4.1 "Frame Format" and 10.5 "Denial-of-Service Considerations".
"""

from __future__ import annotations

from collections.abc import Callable

from receivers.otlp.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEADERS,
    INITIAL_SIZE,
    MOST_WINDOW,
    PADDED,
    PREFACE,
    ErrorCodes,
    Frame,
    ViolationError,
)

MAX_FRAME_SIZE = INITIAL_SIZE
"""Bytes of the longest frame taken: HTTP/2's initial value, which clients have to keep to."""

MAX_HEADER_BLOCK = 128 * 1024
"""Bytes of the longest header block taken, as sent. Headers that are merely too long should be refused, not cost the
connection, so they must be read."""

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
    """Cuts what arrives on one connection into frames, and counts what they cost. ``clock`` is in seconds.

    A frame that brings nothing on has to be paid for: pings, settings, resets, windows opened bit by bit, headers
    chopped up, crumbs of data, padding, data for requests that are over. There is credit for four thousand, which comes
    back with time, and faster with requests that are answered, so that a client that sends telemetry never runs out of
    it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._credit = _CREDIT
        self._counted = clock()
        self._preface = PREFACE  # what is still to come of it
        self._parts: list[bytes] = []  # of a frame that is not complete
        self._missing = len(PREFACE)
        self._is_counted = True  # whether that frame is, for its head is there
        self._header_block = 0

    @property
    def has_begun(self) -> bool:
        """Whether the client has begun as HTTP/2 does."""
        return not self._preface

    def answered(self) -> None:
        """A request was answered."""
        self._credit = min(_CREDIT, self._credit + _CREDIT_PER_ANSWER)

    def arrived(self, size: int) -> None:
        """Hear how much arrived at once, before `see`. Raises `AttackError`.

        A crumb from within a frame takes as much work as a whole one.
        """
        if size < _BYTES_PER_CREDIT and size < self._missing and self._is_counted:
            self.pay(1)

    def see(self, data: bytes) -> list[Frame]:
        """Return the frames that are complete with what arrived.

        Raises `AttackError`, and `ViolationError` when the client does not begin as HTTP/2 does.
        """
        if self._preface:
            expected = self._preface[: len(data)]
            if not data.startswith(expected):
                raise ViolationError(ErrorCodes.PROTOCOL_ERROR, "it does not begin as HTTP/2 does")
            self._preface, data = self._preface[len(expected) :], data[len(expected) :]
            self._missing = len(self._preface)
            if self._preface:
                return []
            self._is_counted = False
        if not self._parts:
            return self._cut(data)
        missing = self._missing
        self._missing -= len(data)
        if self._missing > 0:
            self._parts.append(data)
            return []
        # Only what completes the frame is put together with it: the rest is most of what arrived.
        rest = missing if self._is_counted else len(data)
        begun = b"".join((*self._parts, data[:rest]))
        self._parts.clear()
        frames = self._cut(begun)
        return frames + self._cut(data, rest) if rest < len(data) else frames

    def _cut(self, data: bytes, at: int = 0) -> list[Frame]:
        """Return the frames in some bytes, from a place on; keep what is left over."""
        frames: list[Frame] = []
        size, is_counted = len(data), self._is_counted
        missing = 0
        while at < size:
            begin = at + HEAD.size
            if begin > size:
                missing = begin - size
                break
            high, low, kind, flags, stream = HEAD.unpack_from(data, at)
            end = begin + (high << 16 | low)
            if not is_counted:
                self._frame(kind, flags, end - begin)
            if end > size:
                is_counted, missing = True, end - size
                break
            is_counted = False
            frames.append(Frame(kind, flags, stream & MOST_WINDOW, data[begin:end]))
            at = end
        if at < size:
            self._parts.append(data[at:])
        self._is_counted, self._missing = is_counted, missing
        return frames

    def _frame(self, kind: int, flags: int, length: int) -> None:
        if length > MAX_FRAME_SIZE:
            raise AttackError(ErrorCodes.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
        if kind == DATA:
            # How much of a frame is padding stands behind its head, so it is taken for as much as it may be.
            brings = length - _MOST_PADDING if flags & PADDED else length
            if brings < _BYTES_PER_CREDIT and not flags & END_STREAM:
                self.pay(1)
            return
        if kind in (HEADERS, CONTINUATION):
            self._header_block += length
            if self._header_block > MAX_HEADER_BLOCK:
                raise AttackError(ErrorCodes.ENHANCE_YOUR_CALM, f"more than {MAX_HEADER_BLOCK} bytes of headers")
            if flags & END_HEADERS:
                self._header_block = 0
        self.pay(1 + length // (_HEADER_BYTES_PER_CREDIT if kind == HEADERS else _BYTES_PER_CREDIT))

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
