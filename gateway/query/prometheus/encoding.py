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
_NUMBERS = 2**13
"""Numbers that are written at a time, about."""


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
    for some in _together(matrix.series):
        # The numbers of several series are written at once: of a short one, to begin takes longer than to write.
        written = all_answered(np.concatenate([series.values for series in some]).tolist())
        begin = 0
        for series in some:
            end = begin + len(series.times)
            yield b'%s{"metric":%s' % (before, labels(series.labels))
            yield from _points(series, times, written[begin:end])
            yield b"}"
            before, begin = b",", end
    yield b"]"


def _together(several: Sequence[Points]) -> Iterator[Sequence[Points]]:
    """Yield series in parts of not too many numbers."""
    begin = count = 0
    for at, series in enumerate(several):
        if count and count + len(series.times) > _NUMBERS:
            yield several[begin:at]
            begin, count = at, 0
        count += len(series.times)
    if begin < len(several):
        yield several[begin:]


def _points(series: Points, times: _Timestamps, written: Sequence[bytes]) -> Iterator[bytes]:
    if written:
        begins = times.begins(series.times)
        yield b',"values":[' + b'"],'.join(map(bytes.__add__, begins, written)) + b'"]]'
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
            if (times % 1000).any():
                self._begins = [b'[%s,"' % timestamp(time) for time in times.tolist()]
            else:
                self._begins = [b'[%d,"' % second for second in (times // 1000).tolist()]
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
    text = b'{"count":"%s","sum":"%s"' % (_written_number(histogram.count), _written_number(histogram.sum))
    buckets = [
        b'[%d,"%s","%s","%s"]'
        % (
            _rule(histogram, bucket.lower, bucket.upper),
            _written_number(bucket.lower),
            _written_number(bucket.upper),
            _written_number(bucket.population),
        )
        for bucket in histogram.buckets()
    ]
    return text + (b',"buckets":[%s]}' % b",".join(buckets) if buckets else b"}")


def _rule(histogram: Histogram, lower: float, upper: float) -> int:
    if histogram.custom:  # the lowest holds everything below, -Inf itself among it
        return _CLOSED if lower == -np.inf else _OPEN_LEFT
    if lower < 0:
        return _CLOSED if upper > 0 else _OPEN_RIGHT
    return _OPEN_LEFT


def _written_number(value: float) -> bytes:
    return answered(value).encode()
