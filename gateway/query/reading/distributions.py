"""Samples of histograms and summaries, as arrays.

Points of one size in binary COPY have arrays as long as each other's, so all of them are looked into at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from psycopg import sql

from gateway.query.limits import Usage
from gateway.query.reading.arrays import Rows, array_of, ids, row_of
from gateway.query.reading.chunks import Floats, SharedTimes, Times
from gateway.query.reading.connection import Reading
from gateway.query.reading.numbers import Ids, from_postgres
from gateway.query.reading.window import Window
from gateway.query.series import STALE, Buckets, NativeHistograms

_HISTOGRAM = (
    ("bounds_count", ">i4"), ("buckets_count", ">i4"), ("series", ">i8"), ("time", ">i8"), ("count", ">i8"),
    ("sum", ">f8"), ("has_sum", "u1"), ("ended", "u1"),
)  # fmt: skip
_SUMMARY = (
    ("quantiles_count", ">i4"), ("series", ">i8"), ("time", ">i8"), ("count", ">i8"), ("sum", ">f8"), ("ended", "u1"),
)  # fmt: skip
_EXPONENTIAL = (
    ("positive_count", ">i4"), ("negative_count", ">i4"), ("series", ">i8"), ("time", ">i8"), ("count", ">i8"),
    ("sum", ">f8"), ("zero_count", ">i8"), ("scale", ">i4"), ("positive_offset", ">i4"), ("negative_offset", ">i4"),
    ("ended", "u1"),
)  # fmt: skip

_EMPTY_ARRAY, _ARRAY_HEAD = 12, 20
"""Bytes of an array without elements, and before those of one with some."""
_LOWEST_SCHEMA, _HIGHEST_SCHEMA = -4, 8
_LARGEST_EXPONENT = 1080
"""Of 2, somewhat beyond those of the largest and of the smallest number."""
_ZERO_THRESHOLD = 1e-128
"""What Prometheus takes for histograms of OTLP, whatever they say."""


class Points(NamedTuple):
    """Points of one series with the same bounds (or quantiles), ascending by time.

    ``values`` has a row for each bound: how many measurements were up to it, or the value at the quantile.
    """

    series: int
    times: Times
    bounds: Floats
    values: Floats
    counts: Floats
    sums: Floats
    has_sum: npt.NDArray[np.bool_]


def read_histograms(reading: Reading, series: Ids, window: Window, share: SharedTimes) -> Iterator[Points]:
    """Yield the points of histograms with explicit bounds in a time range."""
    query = sql.SQL(
        "SELECT cardinality(explicit_bounds), cardinality(bucket_counts), series_id, time, count, coalesce(sum, 0),"
        " sum IS NOT NULL, coalesce(flags, 0) & 1 = 1, explicit_bounds, bucket_counts"
        " FROM histogram_point WHERE series_id = ANY({}::bigint[]) AND {}"
    ).format(ids(series), window.on("time"))
    for rows in _alike(reading, query, _HISTOGRAM, ("bounds_count", ">f8"), ("buckets_count", ">i8")):
        bounds = _elements(rows, 0)
        buckets = _elements(rows, 1)[:, : bounds.shape[1]]
        values = np.cumsum(buckets, axis=1, dtype=np.float64)
        # Prometheus has a bucket for each bound that there is a count for.
        yield from _points(rows, bounds[:, : buckets.shape[1]], values, share)


def read_summaries(reading: Reading, series: Ids, window: Window, share: SharedTimes) -> Iterator[Points]:
    """Yield the points of summaries in a time range."""
    query = sql.SQL(
        "SELECT cardinality(quantiles), series_id, time, count, sum, coalesce(flags, 0) & 1 = 1, quantiles,"
        " quantile_values FROM summary_point WHERE series_id = ANY({}::bigint[]) AND {}"
    ).format(ids(series), window.on("time"))
    for rows in _alike(reading, query, _SUMMARY, ("quantiles_count", ">f8"), ("quantiles_count", ">f8")):
        yield from _points(rows, _elements(rows, 0), _elements(rows, 1).astype(np.float64), share)


def _alike(
    reading: Reading, query: sql.Composed, head: tuple[tuple[str, str], ...], *arrays: tuple[str, str]
) -> Iterator[Rows]:
    """Yield rows whose arrays have the same lengths, which columns of the head tell."""
    fixed = row_of(*head)
    for size, data in reading.rows_by_size(query).items():
        count = len(data) // size
        heads = np.ndarray(count, fixed, data, strides=(size,))
        lengths = np.stack([heads[column].astype(np.int64) for column, _ in arrays], axis=1)
        for several in np.unique(lengths, axis=0):
            its = [(f"array_{n}", array_of(kind, length)) for n, ((_, kind), length) in
                   enumerate(zip(arrays, several.tolist(), strict=True))]  # fmt: skip
            dtype = np.dtype([*fixed.descr, *its])
            if dtype.itemsize != size:
                continue  # an element that is NULL, which no gateway writes
            rows = np.frombuffer(data, dtype)[(lengths == several).all(axis=1)]
            reading.usage.add_samples(len(rows) * (int(several.sum()) + 2))
            yield rows


def _elements(rows: Rows, number: int) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = rows[f"array_{number}"]["items"]["value"]
    return found.astype(found.dtype.newbyteorder("="))


def _points(rows: Rows, bounds: Floats, values: Floats, share: SharedTimes) -> Iterator[Points]:
    keys = rows["series"].astype(np.int64)
    times = from_postgres(rows["time"])
    distinct, whose = (
        np.unique(bounds, axis=0, return_inverse=True) if bounds.size else (bounds[:1], np.zeros(len(rows), np.int64))
    )
    whose = whose.reshape(len(rows))
    order = np.lexsort((times, whose, keys))
    keys, times, whose = keys[order], times[order], whose[order]
    begins = np.flatnonzero(np.concatenate(([True], (keys[1:] != keys[:-1]) | (whose[1:] != whose[:-1]))))
    ended = rows["ended"] != 0
    counts, sums = rows["count"].astype(np.float64), rows["sum"].astype(np.float64)
    has_sum = rows["has_sum"] != 0 if "has_sum" in (rows.dtype.names or ()) else np.ones(len(rows), np.bool_)
    if ended.any():
        values = values.copy()
        values[ended], counts[ended], sums[ended] = STALE, STALE, STALE
    for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(keys)], strict=True):
        at = times[begin:end]
        once = np.concatenate(([True], at[1:] != at[:-1]))
        its = order[begin:end][once]
        yield Points(
            int(keys[begin]), share(np.ascontiguousarray(at[once])), distinct[whose[begin]],
            np.ascontiguousarray(values[its].T), counts[its], sums[its], has_sum[its],
        )  # fmt: skip


# -- exponential histograms --------------------------------------------------------------------------------------------


class _Dense(NamedTuple):
    """Buckets of some points: ``counts[starts[n]:starts[n + 1]]`` are those of the nth, from ``offsets[n]`` on."""

    offsets: Ids
    starts: Ids
    counts: Floats


class _Part(NamedTuple):
    """Points of exponential histograms, in columns."""

    series: Ids
    times: Times
    schemas: Ids
    zero_counts: Floats
    counts: Floats
    sums: Floats
    positive: _Dense
    negative: _Dense


def read_exponential(
    reading: Reading, series: Ids, window: Window, deltas: frozenset[int]
) -> dict[int, NativeHistograms]:
    """Return the points of exponential histograms in a time range, by series.

    Those of ``deltas`` are summed up. Points of a scale below -4 are left out: Prometheus has no buckets as wide.
    """
    query = sql.SQL(
        "SELECT coalesce(cardinality(positive_bucket_counts), 0), coalesce(cardinality(negative_bucket_counts), 0),"
        " series_id, time, count, coalesce(sum, 0), zero_count, scale, coalesce(positive_offset, 0),"
        " coalesce(negative_offset, 0), coalesce(flags, 0) & 1 = 1,"
        " coalesce(positive_bucket_counts, '{{}}'), coalesce(negative_bucket_counts, '{{}}')"
        " FROM exp_histogram_point WHERE series_id = ANY({}::bigint[]) AND scale >= {} AND {}"
    ).format(ids(series), _LOWEST_SCHEMA, window.on("time"))
    arrays = (("positive_count", ">i8"), ("negative_count", ">i8"))
    found = [_part(rows) for rows in _alike(reading, query, _EXPONENTIAL, *arrays)]
    if not found:
        return {}
    keys, times = (np.concatenate([getattr(part, name) for part in found]) for name in ("series", "times"))
    schemas, zeros = (np.concatenate([getattr(part, name) for part in found]) for name in ("schemas", "zero_counts"))
    counts, sums = (np.concatenate([getattr(part, name) for part in found]) for name in ("counts", "sums"))
    positive, negative = (_together([getattr(part, name) for part in found]) for name in ("positive", "negative"))
    order = np.lexsort((times, keys))
    same = (keys[order][1:] == keys[order][:-1]) & (times[order][1:] == times[order][:-1])
    order = order[np.concatenate(([True], ~same))]
    ordered = keys[order]
    begins = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    result = {}
    for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(ordered)], strict=True):
        its = order[begin:end]
        key = int(ordered[begin])
        columns = (times[its], schemas[its], zeros[its], counts[its], sums[its])
        if key in deltas:
            result[key] = _summed_up(reading.usage, *columns, _taken(positive, its), _taken(negative, its))
        else:
            result[key] = _histograms(*columns, _taken(positive, its), _taken(negative, its))
    return result


def _part(rows: Rows) -> _Part:
    scales = rows["scale"].astype(np.int64)
    schemas = np.minimum(scales, _HIGHEST_SCHEMA)
    counts, sums = rows["count"].astype(np.float64), rows["sum"].astype(np.float64)
    ended = rows["ended"] != 0
    counts[ended], sums[ended] = STALE, STALE
    dense = [
        _scaled(rows[f"{side}_offset"].astype(np.int64), _elements(rows, number).astype(np.float64), scales, schemas)
        for number, side in enumerate(("positive", "negative"))
    ]
    return _Part(
        rows["series"].astype(np.int64),
        from_postgres(rows["time"]),
        schemas,
        rows["zero_count"].astype(np.float64),
        counts,
        sums,
        *dense,
    )


def _scaled(offsets: Ids, counts: Floats, scales: Ids, schemas: Ids) -> _Dense:
    """Return buckets of `schemas`, none larger than its scale, numbered as Prometheus does: one more than OTLP.

    What is in buckets beyond all numbers, which can be billions away, goes into the last one.
    """
    width = counts.shape[1]
    if width == 0:
        return _Dense(np.zeros(len(offsets), np.int64), np.zeros(len(offsets) + 1, np.int64), np.empty(0))
    places = ((offsets[:, None] + np.arange(width)) >> (scales - schemas)[:, None]) + 1
    last = np.ldexp(float(_LARGEST_EXPONENT), schemas).astype(np.int64)[:, None]
    places = np.clip(places, -last, last)
    first = places[:, 0]
    starts = np.concatenate(([0], np.cumsum(places[:, -1] - first + 1)))
    at = places - first[:, None] + starts[:-1, None]
    return _Dense(first, starts, np.bincount(at.ravel(), counts.ravel(), int(starts[-1])).astype(np.float64))


def _together(parts: list[_Dense]) -> _Dense:
    shifts = np.cumsum([0, *(len(part.counts) for part in parts)])
    starts = [part.starts[:-1] + shift for part, shift in zip(parts, shifts.tolist(), strict=False)]
    return _Dense(
        np.concatenate([part.offsets for part in parts]),
        np.append(np.concatenate(starts), shifts[-1]),
        np.concatenate([part.counts for part in parts]),
    )


def _taken(dense: _Dense, which: Ids) -> _Dense:
    lengths = dense.starts[which + 1] - dense.starts[which]
    starts = np.concatenate(([0], np.cumsum(lengths)))
    at = np.repeat(dense.starts[which] - starts[:-1], lengths) + np.arange(int(starts[-1]))
    return _Dense(dense.offsets[which], starts, dense.counts[at])


def _histograms(
    times: Times, schemas: Ids, zeros: Floats, counts: Floats, sums: Floats, positive: _Dense, negative: _Dense
) -> NativeHistograms:
    return NativeHistograms(
        times,
        schemas.astype(np.int8),
        np.full(len(times), _ZERO_THRESHOLD),
        zeros,
        counts,
        sums,
        _buckets(positive),
        _buckets(negative),
    )


def _buckets(dense: _Dense) -> Buckets:
    return Buckets(dense.offsets.astype(np.int32), dense.starts, dense.counts)


def _summed_up(
    usage: Usage,
    times: Times,
    schemas: Ids,
    zeros: Floats,
    counts: Floats,
    sums: Floats,
    positive: _Dense,
    negative: _Dense,
) -> NativeHistograms:
    """Return what was counted in all up to each point, in the widest buckets that any of them has."""
    lowest = np.full(len(times), schemas.min())
    stale = np.isnan(counts)
    counts, sums = (np.where(stale, STALE, np.cumsum(np.where(stale, 0, column))) for column in (counts, sums))
    return _histograms(
        times, lowest, np.cumsum(zeros), counts, sums,
        _running(usage, positive, schemas - lowest), _running(usage, negative, schemas - lowest),
    )  # fmt: skip


def _running(usage: Usage, dense: _Dense, down: Ids) -> _Dense:
    lengths = np.diff(dense.starts)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    if not len(rows):
        return dense
    index = np.repeat(dense.offsets - dense.starts[:-1], lengths) + np.arange(len(rows))
    index = ((index - 1) >> down[rows]) + 1
    first, width = int(index.min()), int(index.max() - index.min()) + 1
    usage.add_samples(max(len(lengths) * width - len(dense.counts), 0))
    matrix = np.zeros((len(lengths), width))
    np.add.at(matrix, (rows, index - first), dense.counts)
    starts = np.arange(len(lengths) + 1, dtype=np.int64) * width
    return _Dense(np.full(len(lengths), first), starts, np.cumsum(matrix, axis=0).ravel())


def read_bounds(reading: Reading, table: str, column: str, series: Ids, window: Window) -> dict[int, set[float]]:
    """Return the bounds or quantiles that series have in a time range, by key."""
    query = sql.SQL("SELECT DISTINCT series_id, {} FROM {} WHERE series_id = ANY({}::bigint[]) AND {}").format(
        sql.Identifier(column), sql.Identifier(table), ids(series), window.on("time")
    )
    found: defaultdict[int, set[float]] = defaultdict(set)
    for key, array in reading.texts(query):
        if key is not None and array is not None and len(array) > _EMPTY_ARRAY:
            items = np.frombuffer(array, np.dtype([("size", ">i4"), ("value", ">f8")]), offset=_ARRAY_HEAD)
            found[int.from_bytes(key, "big", signed=True)].update(items["value"].tolist())
    return found


def put_together(one: NativeHistograms, other: NativeHistograms) -> NativeHistograms:
    """Return the histograms of both, ascending by time. Of two at one time, the first is kept."""
    times = np.concatenate([one.times, other.times])
    order = np.argsort(times, kind="stable")
    order = order[np.concatenate(([True], times[order][1:] != times[order][:-1]))] if len(order) else order
    columns = [
        np.concatenate([getattr(one, name), getattr(other, name)])[order]
        for name in ("schemas", "zero_counts", "counts", "sums")
    ]
    sides = [
        _taken(_together([_Dense(each.offsets.astype(np.int64), each.starts, each.counts) for each in pair]), order)
        for pair in ((one.positive, other.positive), (one.negative, other.negative))
    ]
    schemas, zeros, counts, sums = columns
    return _histograms(times[order], schemas, zeros, counts, sums, *sides)
