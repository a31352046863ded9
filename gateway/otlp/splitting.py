"""Requests taken apart by their records, which themselves are not decoded.

A request is cut between records (log records, spans, data points). Each part is a request of its own, with whatever
surrounds its records: resources, scopes, metrics, schema URLs, fields that no version of the protocol knows. Records
keep their order and their bytes. The same request is cut in the same way each time, so that a destination with receipts
knows the parts again.

This works on the wire format and not on messages: a record is copied once, and what cannot be decoded in one record is
of no concern to its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.component.batch import Signal
from gateway.otlp import wire_format
from gateway.otlp.bounds import RECORD, Budget

_DATA = (5, 7, 9, 10, 11)
"""The fields of a metric that hold its data: gauge, sum, histogram, exponential histogram, summary."""

_LEVELS: dict[Signal, tuple[tuple[int, ...], ...]] = {
    Signal.LOGS: ((1,), (2,), (2,)),
    Signal.TRACES: ((1,), (2,), (2,)),
    Signal.METRICS: ((1,), (2,), (2,), _DATA, (1,)),
}
"""From the request down to its records: the fields that lead one level further."""


@dataclass(slots=True)
class _Container:
    """A message that holds records, or holds others that do: the field it is, and what it has besides them."""

    tag: bytes
    parent: _Container | None
    envelope: list[bytes] = field(default_factory=list)

    def size(self) -> int:
        """Return about how many bytes it adds to a part."""
        return len(self.tag) + 4 + sum(map(len, self.envelope))


@dataclass(slots=True, frozen=True)
class _Piece:
    """A record: the whole field, tag and length included, and where it belongs."""

    raw: memoryview
    parent: _Container


def halves(signal: Signal, payload: bytes) -> tuple[bytes, bytes] | None:
    """Return two requests with half of the records each, in order; None when there are not two records to be found."""
    pieces = _pieces(signal, payload)
    if len(pieces) < 2:
        return None
    middle = len(pieces) // 2
    return _request(pieces[:middle]), _request(pieces[middle:])


def cut(signal: Signal, payload: bytes, most_bytes: int, budget: Budget | None = None) -> list[bytes]:
    """Return requests of about as many bytes at most, in order; a larger record is one of its own.

    What is small enough, or no request, is returned as it is. Raises `TooLargeError` beyond the budget.
    """
    if len(payload) <= most_bytes:
        return [payload]
    pieces = _pieces(signal, payload, budget)
    parts: list[list[_Piece]] = []
    size, around = most_bytes, None
    for piece in pieces:
        size += len(piece.raw) + (0 if piece.parent is around else _surroundings(piece.parent))
        if size > most_bytes:
            parts.append([])
            size = len(piece.raw) + _surroundings(piece.parent)
        around = piece.parent
        parts[-1].append(piece)
    return [_request(part) for part in parts] if len(parts) > 1 else [payload]


def _surroundings(container: _Container | None) -> int:
    size = 0
    while container is not None:
        size += container.size()
        container = container.parent
    return size


def _pieces(signal: Signal, payload: bytes, budget: Budget | None = None) -> list[_Piece]:
    """Return the records of a request; none when it is no request. Raises `TooLargeError` beyond a budget."""
    pieces: list[_Piece] = []
    try:
        _collect(memoryview(payload), _LEVELS[signal], _Container(b"", None), pieces, budget)
    except wire_format.BrokenError:
        return []
    return pieces


def _collect(
    data: memoryview,
    levels: Sequence[tuple[int, ...]],
    container: _Container,
    pieces: list[_Piece],
    budget: Budget | None,
) -> None:
    further, *rest = levels
    for number, wire_type, start, content, end in wire_format.fields(data):
        if wire_type != wire_format.LENGTH or number not in further:
            container.envelope.append(bytes(data[start:end]))
            continue
        if budget is not None:
            budget.take(1, RECORD, "records")
        if rest:
            tag = wire_format.varint(number << 3 | wire_format.LENGTH)
            _collect(data[content:end], rest, _Container(tag, container), pieces, budget)
        else:
            pieces.append(_Piece(data[start:end], container))


def _request(pieces: Sequence[_Piece]) -> bytes:
    """Return the request of some records that follow each other."""
    root = pieces[0].parent
    while root.parent is not None:
        root = root.parent
    return b"".join(_content(root, pieces))


def _content(container: _Container, pieces: Sequence[_Piece]) -> list[bytes | memoryview]:
    """Return the bytes of a container's content, of which these are all the records."""
    content: list[bytes | memoryview] = list(container.envelope)
    start = 0
    while start < len(pieces):
        child = _child(pieces[start].parent, container)
        if child is None:
            content.append(pieces[start].raw)
            start += 1
            continue
        parent, end = pieces[start].parent, start + 1
        while end < len(pieces) and (pieces[end].parent is parent or _child(pieces[end].parent, container) is child):
            end += 1
        inner = _content(child, pieces[start:end])
        content += [child.tag, wire_format.varint(sum(map(len, inner))), *inner]
        start = end
    return content


def _child(container: _Container, ancestor: _Container) -> _Container | None:
    """Return which child of an ancestor a container is, or is in; None when it is the ancestor itself."""
    child = None
    while container is not ancestor:
        assert container.parent is not None
        child, container = container, container.parent
    return child
