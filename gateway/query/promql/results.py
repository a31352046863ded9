"""What a PromQL query comes to: a scalar, a string, an instant vector or a matrix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gateway.query.annotations import Annotations
from gateway.query.promql.histogram import Histogram


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number at a time (milliseconds)."""

    time: int
    value: float


@dataclass(frozen=True, slots=True)
class String:
    """A text at a time (milliseconds)."""

    time: int
    value: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One element of an instant vector: a number, or a native histogram (``value`` is then NaN)."""

    labels: dict[str, str]
    value: float
    histogram: Histogram | None = None


@dataclass(frozen=True, slots=True)
class Vector:
    """Elements at one time (milliseconds), in the order in which Prometheus has them where it says one."""

    time: int
    samples: list[Sample]


@dataclass(frozen=True, slots=True)
class Points:
    """A series of a matrix: its numbers and its native histograms, each with times (milliseconds), ascending."""

    labels: dict[str, str]
    times: NDArray[np.int64]
    values: NDArray[np.float64]
    histogram_times: NDArray[np.int64]
    histograms: list[Histogram]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Series, sorted by their labels."""

    series: list[Points]


@dataclass(frozen=True, slots=True)
class Result:
    """The value of a query, and what is to be said about it."""

    value: Scalar | String | Vector | Matrix
    annotations: Annotations = field(default_factory=Annotations)

    @property
    def type(self) -> Literal["scalar", "string", "vector", "matrix"]:
        """The ``resultType`` of Prometheus's API."""
        match self.value:
            case Scalar():
                return "scalar"
            case String():
                return "string"
            case Vector():
                return "vector"
            case Matrix():
                return "matrix"
