"""HTTP/2's frames: what they are called on the wire, and those that a server sends.

Source: RFC 9113, 4.1 "Frame Format", 6 "Frame Definitions" and 7 "Error Codes".
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from typing import NamedTuple


class ErrorCodes(enum.IntEnum):
    """Why a request is reset, or a connection ended (7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 1, 2, 3, 4
MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE, ENABLE_CONNECT_PROTOCOL = 5, 6, 8

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client begins with (3.4)."""

INITIAL_SIZE = 2**14
"""Bytes of the longest frame, as long as the other side says nothing else. We say nothing else."""

INITIAL_WINDOW = 2**16 - 1
MOST_WINDOW = 2**31 - 1

HEAD = struct.Struct(">BHBBL")
"""The length of a frame (its first byte apart), its type, flags and stream."""

_NUMBER = struct.Struct(">L")
_SETTING = struct.Struct(">HL")


class Frame(NamedTuple):
    """A frame as it came."""

    kind: int
    flags: int
    stream: int
    content: bytes


class ViolationError(Exception):
    """The client breaks the rules of HTTP/2. ``code`` is what the connection is ended with."""

    def __init__(self, code: ErrorCodes, why: str) -> None:
        super().__init__(why)
        self.code = code


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """Return a frame. Its content is no longer than the client takes."""
    length = len(content)
    return HEAD.pack(length >> 16, length & 0xFFFF, kind, flags, stream) + content


def settings(values: Mapping[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join([_SETTING.pack(*each) for each in values.items()]))


def read_settings(content: bytes) -> dict[int, int]:
    """Return the settings in a SETTINGS frame, each with its last value. Raises `ViolationError`."""
    if len(content) % _SETTING.size:
        raise ViolationError(ErrorCodes.FRAME_SIZE_ERROR, f"settings of {len(content)} bytes")
    found = list(_SETTING.iter_unpack(content))
    for setting, value in found:
        if setting == INITIAL_WINDOW_SIZE and value > MOST_WINDOW:
            raise ViolationError(ErrorCodes.FLOW_CONTROL_ERROR, f"a window of {value} bytes")
        if setting in (ENABLE_PUSH, ENABLE_CONNECT_PROTOCOL) and value > 1:
            raise ViolationError(ErrorCodes.PROTOCOL_ERROR, f"setting {setting} is {value}")
        if setting == MAX_FRAME_SIZE and not INITIAL_SIZE <= value < 2**24:
            raise ViolationError(ErrorCodes.PROTOCOL_ERROR, f"frames of {value} bytes at most")
    return dict(found)


def headers(stream: int, block: bytes, *, end: bool, most: int) -> bytes:
    """Return a header block as frames of at most so many bytes; with ``end``, it ends the answer."""
    flags = END_STREAM if end else 0
    if len(block) <= most:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    pieces = [block[at : at + most] for at in range(0, len(block), most)]
    kinds = [HEADERS] + [CONTINUATION] * (len(pieces) - 1)
    all_flags = [flags] + [0] * (len(pieces) - 2) + [END_HEADERS]
    return b"".join([frame(*each[:2], stream, each[2]) for each in zip(kinds, all_flags, pieces, strict=True)])


def reset(stream: int, code: ErrorCodes) -> bytes:
    """Return a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, _NUMBER.pack(code))


def window_update(stream: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream, _NUMBER.pack(increment))


def goaway(last_stream: int, code: ErrorCodes, why: str = "") -> bytes:
    """Return a GOAWAY frame."""
    return frame(GOAWAY, 0, 0, _NUMBER.pack(last_stream) + _NUMBER.pack(code) + why.encode())


def number_in(content: bytes, what: str) -> int:
    """Return the one number that a frame consists of, without its reserved bit. Raises `ViolationError`."""
    if len(content) != _NUMBER.size:
        raise ViolationError(ErrorCodes.FRAME_SIZE_ERROR, f"{what} of {len(content)} bytes")
    return int(_NUMBER.unpack(content)[0]) & MOST_WINDOW


def check_whole(each: Frame, size: int | None) -> None:
    """Check a frame of the connection as a whole, and its size where there is but one. Raises `ViolationError`."""
    if each.stream:
        raise ViolationError(ErrorCodes.PROTOCOL_ERROR, "a frame of the connection that names a request")
    if size is not None and len(each.content) != size:
        raise ViolationError(ErrorCodes.FRAME_SIZE_ERROR, f"a frame of {len(each.content)} bytes instead of {size}")


def unpadded(each: Frame) -> bytes:
    """Return the content of a DATA or HEADERS frame without its padding and priority. Raises `ViolationError`."""
    content, padding = each.content, 0
    if each.flags & PADDED:
        if not content:
            raise ViolationError(ErrorCodes.FRAME_SIZE_ERROR, "a padded frame without content")
        padding, content = content[0], content[1:]
    if each.kind == HEADERS and each.flags & WITH_PRIORITY:
        check_priority(each.stream, content)
        content = content[5:]
    if padding > len(content):
        raise ViolationError(ErrorCodes.PROTOCOL_ERROR, f"padding of {padding} bytes in a frame that is shorter")
    return content[: len(content) - padding]


def check_priority(stream: int, content: bytes) -> None:
    """Check the priority of a stream, which means nothing here. Raises `ViolationError`."""
    if len(content) < 5:
        raise ViolationError(ErrorCodes.FRAME_SIZE_ERROR, "a priority that is cut off")
    if number_in(content[:4], "a priority") == stream:
        raise ViolationError(ErrorCodes.PROTOCOL_ERROR, f"stream {stream} depends on itself")
