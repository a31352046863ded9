"""Vectors over all steps of a query at once: a matrix of series by steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.query.errors import ExecutionError
from gateway.query.promql.histogram import Histogram
from gateway.query.promql.labels import LabelSet

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Objects = NDArray[np.object_]


@dataclass(slots=True)
class Vectors:
    """An instant vector at each of m steps, of n series.

    A cell that is not ``present`` is no element of the vector at its step. A present cell has a native histogram where
    ``histograms`` has one, else the number of ``values``. The order of the series is that of the elements.
    """

    labels: list[LabelSet]
    """n."""
    values: Floats
    """n by m."""
    present: Bools
    """n by m."""
    histograms: Objects | None = None
    """n by m, `Histogram` or None in each cell; None where all are numbers."""

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> Vectors:
        """Return some of the series. What is returned may share arrays with this."""
        index = np.asarray(rows, np.intp)
        if np.array_equal(index, np.arange(len(self.labels))):
            return self
        return Vectors(
            [self.labels[row] for row in index.tolist()],
            self.values[index],
            self.present[index],
            None if self.histograms is None else self.histograms[index],
        )

    def filled(self) -> Vectors:
        """Return the series that have an element at some step."""
        some = np.flatnonzero(self.present.any(axis=1))
        return self if len(some) == len(self.labels) else self.take(some)

    def is_histogram(self) -> Bools:
        """Return which cells have a native histogram (n by m)."""
        if self.histograms is None:
            return np.zeros(self.present.shape, bool)
        return self.present & is_some(self.histograms)

    def numbers(self) -> Bools:
        """Return which cells have a number (n by m)."""
        return self.present if self.histograms is None else self.present & ~self.is_histogram()


def is_some(histograms: Objects) -> Bools:
    """Return which cells are not None."""
    some: Any = np.frompyfunc(lambda one: one is not None, 1, 1)(histograms)
    return np.asarray(some, bool)


def cell(histograms: Objects | None, row: int, step: int) -> Histogram | None:
    """Return the native histogram of a cell, if it has one."""
    one: Any = None if histograms is None else histograms[row, step]
    return one if isinstance(one, Histogram) else None


def empty(steps: int) -> Vectors:
    """Return vectors without elements."""
    return Vectors([], np.empty((0, steps)), np.empty((0, steps), bool))


def merged(vectors: Vectors) -> Vectors:
    """Return `vectors` with series of the same labels made one, as steps of a range query are put together.

    Raises `ExecutionError` where two have an element at one step.
    """
    first: dict[LabelSet, int] = {}
    owners = [first.setdefault(labels, row) for row, labels in enumerate(vectors.labels)]
    if len(first) == len(owners):
        return vectors
    values, present = vectors.values.copy(), vectors.present.copy()
    histograms = None if vectors.histograms is None else vectors.histograms.copy()
    for row, owner in enumerate(owners):
        if row != owner:
            there = vectors.present[row]
            if (present[owner] & there).any():
                raise same_labels()
            values[owner] = np.where(there, values[row], values[owner])
            present[owner] |= there
            if histograms is not None:
                histograms[owner] = np.where(there, histograms[row], histograms[owner])
    return Vectors(vectors.labels, values, present, histograms).take(list(first.values()))


def unique(vectors: Vectors) -> Vectors:
    """Return `vectors`; raises `ExecutionError` where two series have the same labels, at whatever steps."""
    if len(set(vectors.labels)) < len(vectors.labels):
        raise same_labels()
    return vectors


def same_labels() -> ExecutionError:
    """Return the error of a result whose elements cannot be told apart."""
    return ExecutionError("vector cannot contain metrics with the same labelset")
