"""Answers as JSON, as Prometheus writes them. Large ones come a piece at a time, and are never whole in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.query.annotations import shown
from gateway.query.numbers_text import all_answered, answered
from gateway.query.promql.histogram import Histogram
from gateway.query.promql.results import Matrix, Points, Result, Scalar, String, Vector

_encode = msgspec.json.Encoder().encode
_MOST_ANNOTATIONS = 10
_PIECE = 2**18
"""Bytes that are handed on at a time, about."""


def answer(data: Any, warnings: Sequence[str] = ()) -> bytes:
    """Return an answer that is small enough to be written at once."""
    return _encode({"status": "success", "data": data, **({"warnings": warnings} if warnings else {})})


def failure(kind: str, message: str) -> bytes:
    """Return the answer for an error."""
    return _encode({"status": "error", "errorType": kind, "error": message})


def pieces(result: Result, more_warnings: Iterable[str] = ()) -> Iterator[bytes]:
    """Yield the answer for a query's result."""
    some: list[bytes] = []
    size = 0
    for piece in _written(result, more_warnings):
        some.append(piece)
        size += len(piece)
        if size >= _PIECE:
            yield b"".join(some)
            some, size = [], 0
    yield b"".join(some)


def _written(result: Result, more_warnings: Iterable[str]) -> Iterator[bytes]:
    yield b'{"status":"success","data":{"resultType":"%s","result":' % result.type.encode()
    match result.value:
        case Scalar(time, value):
            yield b'[%s,"%s"]' % (timestamp(time), _written_number(value))
        case String(time, text):
            yield b"[%s,%s]" % (timestamp(time), _encode(text))
        case Vector() as vector:
            yield from _vector(vector)
        case Matrix() as matrix:
            yield from _matrix(matrix)
    yield b"}"
    for name, texts in (
        (b"warnings", [*shown(result.annotations.warnings, _MOST_ANNOTATIONS), *more_warnings]),
        (b"infos", shown(result.annotations.infos, _MOST_ANNOTATIONS)),
    ):
        if texts:
            yield b',"%s":%s' % (name, _encode(texts))
    yield b"}"


def _vector(vector: Vector) -> Iterator[bytes]:
    at = timestamp(vector.time)
    yield b"["
    numbers = iter(all_answered([sample.value for sample in vector.samples if sample.histogram is None]))
    before = b""
    for sample in vector.samples:
        if sample.histogram is None:
            value = b'"value":[%s,"%s"]' % (at, next(numbers))
        else:
            value = b'"histogram":[%s,%s]' % (at, _histogram(sample.histogram))
        yield b'%s{"metric":%s,%s}' % (before, labels(sample.labels), value)
        before = b","
    yield b"]"


def _matrix(matrix: Matrix) -> Iterator[bytes]:
    times = _Timestamps()
    yield b"["
    before = b""
    for series in matrix.series:
        yield b'%s{"metric":%s' % (before, labels(series.labels))
        yield from _points(series, times)
        yield b"}"
        before = b","
    yield b"]"


def _points(series: Points, times: _Timestamps) -> Iterator[bytes]:
    if len(series.times):
        begins = times.begins(series.times)
        values = all_answered(series.values.tolist())
        yield b',"values":[' + b'"],'.join(map(bytes.__add__, begins, values)) + b'"]]'
    if len(series.histogram_times):
        both = zip(series.histogram_times.tolist(), series.histograms, strict=True)
        yield b',"histograms":[' + b",".join(b"[%s,%s]" % (timestamp(at), _histogram(h)) for at, h in both) + b"]"


class _Timestamps:
    """The beginnings of points, which are the same ones for series after series."""

    def __init__(self) -> None:
        self._times: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._begins: list[bytes] = []

    def begins(self, times: npt.NDArray[np.int64]) -> list[bytes]:
        """Return what comes before the value of each point."""
        if times is not self._times and not np.array_equal(times, self._times):
            self._begins = [b'[%s,"' % timestamp(time) for time in times.tolist()]
        self._times = times
        return self._begins


def timestamp(milliseconds: int) -> bytes:
    """Return a time in seconds: as many decimals as there are milliseconds, or none."""
    seconds, rest = divmod(abs(milliseconds), 1000)
    sign = b"-" if milliseconds < 0 else b""
    return b"%s%d.%03d" % (sign, seconds, rest) if rest else b"%s%d" % (sign, seconds)


def labels(its: Mapping[str, str]) -> bytes:
    """Return labels as an object, sorted by name."""
    return _encode(dict(sorted(its.items())) if len(its) > 1 else its)


# -- native histograms -------------------------------------------------------------------------------------------------

_OPEN_LEFT, _OPEN_RIGHT, _CLOSED = 0, 1, 3
"""Which ends belong to a bucket: the upper, the lower, both."""


def _histogram(histogram: Histogram) -> bytes:
    text = [b'{"count":"%s","sum":"%s"' % (_written_number(histogram.count), _written_number(histogram.sum))]
    buckets = [bucket for bucket in _buckets(histogram) if bucket[3] != 0]
    if buckets:
        text.append(
            b',"buckets":['
            + b",".join(
                b'[%d,"%s","%s","%s"]' % (rule, _written_number(lower), _written_number(upper), _written_number(count))
                for rule, lower, upper, count in buckets
            )
            + b"]"
        )
    return b"".join(text) + b"}"


def _written_number(value: float) -> bytes:
    return answered(value).encode()


def _buckets(histogram: Histogram) -> Iterator[tuple[int, float, float, float]]:
    """Yield the buckets in ascending order: which ends belong to it, the ends, and how many are in it."""
    for at in range(len(histogram.negative.counts) - 1, -1, -1):
        index = histogram.negative.offset + at
        upper, lower = -_bound(index - 1, histogram), -_bound(index, histogram)
        yield _OPEN_RIGHT, lower, upper, float(histogram.negative.counts[at])
    if histogram.zero_count and not histogram.custom:
        yield _CLOSED, -histogram.zero_threshold, histogram.zero_threshold, histogram.zero_count
    for at, count in enumerate(histogram.positive.counts.tolist()):
        index = histogram.positive.offset + at
        lower, upper = _bound(index - 1, histogram), _bound(index, histogram)
        # Source: Prometheus: the lowest bucket of bounds of its own holds everything below, and -Inf itself.
        rule = _CLOSED if histogram.custom and index == 0 else _OPEN_LEFT
        yield rule, lower, upper, count


def _bound(index: int, histogram: Histogram) -> float:
    """Return the upper end of a bucket."""
    if histogram.bounds is not None:
        if index < 0:
            return -np.inf
        return float(histogram.bounds[index]) if index < len(histogram.bounds) else np.inf
    return exponential_bound(index, histogram.schema)


def exponential_bound(index: int, schema: int) -> float:
    """Return 2^(index · 2^-schema), and for what is beyond all doubles the greatest, or +Inf after it."""
    if schema < 0:
        exponent = index << -schema
        if exponent == 1024:  # as Prometheus: so that the greatest double is in a bucket
            return float(np.finfo(np.float64).max)
        return float(np.ldexp(1.0, exponent)) if exponent < 1024 else np.inf
    whole, part = index >> schema, index & ((1 << schema) - 1)
    if part == 0 and whole == 1024:
        return float(np.finfo(np.float64).max)
    if whole >= 1024:
        return np.inf
    return float(np.ldexp(2.0 ** (part / (1 << schema)), whole))
