"""Samples of several places become one series: of sets, of rows, and of what OTLP tells apart and Prometheus does not.

Points observed together share one array of times, and still do when they come out of here: the languages evaluate them
together then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.query.series import STALE_BITS

Times = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Chunk(NamedTuple):
    """Samples of one series from one place, ascending by time, in milliseconds. Times may be shared between chunks."""

    times: Times
    values: Floats


class SharedTimes:
    """Gives equal arrays of times out as one object."""

    def __init__(self) -> None:
        self._known: dict[bytes, Times] = {}

    def __call__(self, times: Times) -> Times:
        """Return the array that stands for all that are equal to it."""
        return self._known.setdefault(times.tobytes(), times)


class Joiner:
    """Joins the chunks of series. What times become is worked out once for all series with the same ones."""

    def __init__(self, share: SharedTimes) -> None:
        self._share = share
        self._plans: dict[tuple[int, ...], tuple[Times, npt.NDArray[np.intp], Sequence[Times]]] = {}

    def join(self, chunks: Sequence[Chunk]) -> Chunk:
        """Return the samples of all chunks, ascending by time. Of several at one time, the first chunk's is kept."""
        if len(chunks) == 1:
            return chunks[0]
        key = tuple(id(chunk.times) for chunk in chunks)
        if (plan := self._plans.get(key)) is None:
            all_times = np.concatenate([chunk.times for chunk in chunks])
            order = np.argsort(all_times, kind="stable")
            ordered = all_times[order]
            keep = np.ones(len(ordered), np.bool_)
            keep[1:] = ordered[1:] != ordered[:-1]
            # The arrays are kept, for their ids must stay theirs.
            plan = self._share(ordered[keep]), order[keep], [chunk.times for chunk in chunks]
            self._plans[key] = plan
        times, order, _ = plan
        return Chunk(times, np.concatenate([chunk.values for chunk in chunks])[order])


def summed_up(chunk: Chunk) -> Chunk:
    """Return what was counted since the last point each time as what was counted in all, from the first point on.

    Stale markers stay, and a value that is no number adds nothing.
    """
    stale = chunk.values.view(np.uint64) == STALE_BITS
    totals = np.cumsum(np.nan_to_num(chunk.values, nan=0.0, posinf=np.inf, neginf=-np.inf))
    return Chunk(chunk.times, np.where(stale, chunk.values, totals))


def to_milliseconds(microseconds: npt.NDArray[np.int64]) -> Times:
    """Return times since the Unix epoch as Prometheus has them: rounded down."""
    return microseconds // 1000
