"""Native histograms: one as a value, and what PromQL does with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from gateway.query.series import CUSTOM_BOUNDS_SCHEMA


class ResetHint(IntEnum):
    """What is known of a reset of the counter between a histogram and the one before it."""

    UNKNOWN = 0
    RESET = 1
    NOT_RESET = 2
    GAUGE = 3


@dataclass(frozen=True, slots=True)
class Side:
    """Dense populations of the buckets on one side of zero; bucket ``offset + i`` has ``counts[i]``."""

    offset: int
    counts: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Histogram:
    """One native histogram, as Prometheus's float histograms: every population is a float."""

    schema: int
    zero_threshold: float
    zero_count: float
    count: float
    sum: float
    positive: Side
    negative: Side
    bounds: NDArray[np.float64] | None = None
    """Upper bounds of all buckets but the last, with `CUSTOM_BOUNDS_SCHEMA`."""
    hint: ResetHint = ResetHint.UNKNOWN

    @property
    def custom(self) -> bool:
        """Whether the buckets have bounds of their own."""
        return self.schema == CUSTOM_BOUNDS_SCHEMA
