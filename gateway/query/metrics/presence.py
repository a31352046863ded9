"""In which intervals a metric had points, and their means: from the rollups by minute, and where these have none, from
the points themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, LiteralString

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.query.store import Store

_MOST_GAPS = 200
"""Gaps that are looked into one by one; beyond, all points of the range are read instead."""

_ROLLUPS: LiteralString = """
    SELECT date_bin(%(step)s, time, %(origin)s) AS begins, sum(sum) / sum(count) AS mean
    FROM rollup_1m
    WHERE series_id = ANY(%(series)s) AND time >= %(start)s AND time < %(end)s AND abs(sum) < 1e290 AND count > 0
    GROUP BY 1
    """
_POINTS: LiteralString = """
    SELECT date_bin(%(step)s, time, %(origin)s) AS begins, avg(value) AS mean
    FROM number_point
    WHERE series_id = ANY(%(series)s) AND time >= %(start)s AND time < %(end)s AND abs(value) < 1e290
    GROUP BY 1
    """


class _Mean(msgspec.Struct):
    begins: datetime
    mean: float


def means(store: Store, series: Sequence[int], start: datetime, step: timedelta, count: int) -> npt.NDArray[np.float64]:
    """Return the mean of all points of some series of numbers in each of ``count`` intervals, NaN where there are none.

    Raises `QueryError`.
    """
    found = np.full(count, np.nan)
    if not series or not count:
        return found

    def read(statement: LiteralString, first: int, last: int) -> None:
        parameters: dict[str, Any] = {
            "series": list(series),
            "origin": start,
            "step": step,
            "start": start + first * step,
            "end": start + last * step,
        }
        for row in store.rows(statement, parameters, _Mean):
            found[(row.begins - start) // step] = row.mean

    read(_ROLLUPS, 0, count)
    # Rollups come some time after their points, and perhaps never.
    gaps = list(_gaps(found))
    for first, last in gaps if len(gaps) <= _MOST_GAPS else [(0, count)]:
        read(_POINTS, first, last)
    return found


def _gaps(found: npt.NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Yield where there is nothing: the first interval, and the one after the last."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], np.isnan(found), [False])).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
