"""Header blocks (HPACK): those of clients are read, ours written.

Clients keep what they say again and again in a table, so that most requests name entries of it and no more. What such
a block says is remembered as long as the table stays as it is. Ours use no table: they are few, and written once.

Source: RFC 7541.
"""

from __future__ import annotations

import functools
from collections import deque

from hpack import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from receivers.otlp.http2.flood_guard import MAX_HEADER_BLOCK, AttackError
from receivers.otlp.http2.frames import ErrorCodes, ViolationError
from receivers.otlp.http2.stream import Headers

_TABLE_SIZE = 4096
"""Bytes of the client's table: HTTP/2's initial value, which we leave as it is."""

_MOST_LISTED = 2 * MAX_HEADER_BLOCK
"""Bytes of headers that one block may stand for."""

_MOST_FIELDS = 1024
"""Headers that one block may stand for: more than twice as many as `MAX_HEADERS` has room for. Each costs the client
one byte, and us the work of looking at it."""

_STATIC: tuple[tuple[bytes, bytes], ...] = HeaderTable.STATIC_TABLE
_ENTRY = 32
"""What an entry counts for besides its name and value (4.1)."""

_MOST_REMEMBERED = 8
_LONGEST_REMEMBERED = 512
"""Blocks that are remembered for a connection, and how long they may be."""

NO_TABLE = b"\x20"
"""What our first block on a connection begins with: we keep no table, whatever size the client allows (6.3)."""


class Decoder:
    """Reads the header blocks of one connection, of which each depends on those before."""

    def __init__(self) -> None:
        self._table: deque[tuple[bytes, bytes]] = deque()  # the newest first
        self._size = 0
        self._most = _TABLE_SIZE
        self._known: dict[bytes, Headers] = {}

    def decode(self, block: bytes) -> Headers:
        """Return the headers that a block stands for.

        Raises `ViolationError`, or `AttackError` for more than anybody means; the connection is of no use then.
        """
        found = self._known.get(block)
        if found is not None:
            return found
        try:
            headers, is_pure = self._decode(block)
        except (IndexError, HPACKDecodingError):
            raise ViolationError(ErrorCodes.PROTOCOL_ERROR, "a header block that cannot be read") from None
        if not is_pure:
            self._known.clear()
        elif len(block) <= _LONGEST_REMEMBERED:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[block] = headers
        return headers

    def _decode(self, block: bytes) -> tuple[Headers, bool]:
        """Return the headers of a block, and whether it left the table as it was."""
        headers: list[tuple[bytes, bytes]] = []
        at, end, size, is_pure = 0, len(block), 0, True
        while at < end:
            first = block[at]
            if first & 0x80:  # an entry
                index, at = _integer(block, at, 0x7F)
                field = self._entry(index)
            elif first & 0xE0 == 0x20:  # a change of the table's size
                most, at = _integer(block, at, 0x1F)
                if headers or most > _TABLE_SIZE:
                    raise HPACKDecodingError("a size of the table where none may be, or too large")
                self._most, is_pure = most, False
                self._evict(0)
                continue
            else:  # a literal, which is kept in the table where the second bit says so
                index, at = _integer(block, at, 0x3F if first & 0x40 else 0x0F)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, at = _text(block, at)
                value, at = _text(block, at)
                field = name, value
                if first & 0x40:
                    self._add(field)
                    is_pure = False
            headers.append(field)
            size += len(field[0]) + len(field[1]) + _ENTRY
            if len(headers) > _MOST_FIELDS:
                raise AttackError(ErrorCodes.ENHANCE_YOUR_CALM, f"more than {_MOST_FIELDS} headers")
            if size > _MOST_LISTED:
                raise AttackError(ErrorCodes.ENHANCE_YOUR_CALM, f"more than {_MOST_LISTED} bytes of headers")
        return tuple(headers), is_pure

    def _entry(self, index: int) -> tuple[bytes, bytes]:
        if index == 0:
            raise IndexError(index)
        return _STATIC[index - 1] if index <= len(_STATIC) else self._table[index - len(_STATIC) - 1]

    def _add(self, field: tuple[bytes, bytes]) -> None:
        size = len(field[0]) + len(field[1]) + _ENTRY
        self._evict(size)
        if size <= self._most:  # one that is larger than the table empties it
            self._table.appendleft(field)
            self._size += size

    def _evict(self, size: int) -> None:
        """Make room for an entry of a size."""
        while self._table and self._size + size > self._most:
            name, value = self._table.pop()
            self._size -= len(name) + len(value) + _ENTRY


@functools.lru_cache(maxsize=64)
def encode(headers: Headers) -> bytes:
    """Return headers as a block that uses no table."""
    return b"".join([b"\0" + _length(len(name)) + name + _length(len(value)) + value for name, value in headers])


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """Return an integer, of which the first byte has these bits, and where it ends (5.1)."""
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    for shift in range(0, 28, 7):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise HPACKDecodingError("an integer that is too long")


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    """Return a string, and where it ends (5.2)."""
    is_coded = block[at] & 0x80
    length, at = _integer(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise IndexError(end)
    return (decode_huffman(block[at:end]) if is_coded else block[at:end]), end


def _length(value: int) -> bytes:
    if value < 0x7F:
        return bytes((value,))
    value -= 0x7F
    written = bytearray(b"\x7f")
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
