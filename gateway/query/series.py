"""Series as arrays: what a query language asks of the layer that reads the store, and what it gets."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Labels = Mapping[str, str]
"""Labels of a series, the name of the metric as ``__name__`` among them. An empty value is the same as no label."""

METRIC_NAME = "__name__"

STALE_BITS = 0x7FF0000000000002
"""Prometheus's stale marker: the one NaN that says "the series ended here", told from others by its bits."""

STALE: float = struct.unpack(">d", STALE_BITS.to_bytes(8, "big"))[0]


def is_stale(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where `values` are stale markers; any other NaN is a value like others."""
    stale: NDArray[np.bool_] = np.ascontiguousarray(values).view(np.uint64) == STALE_BITS
    return stale


class Matcher(NamedTuple):
    """A condition on a label. Regular expressions (RE2's) match whole values; a label that is missing is empty."""

    name: str
    op: Literal["=", "!=", "=~", "!~"]
    value: str


@dataclass(frozen=True, slots=True)
class Buckets:
    """Populations of the buckets of n native histograms, dense, one after the other.

    Histogram i has ``counts[starts[i]:starts[i + 1]]`` (absolute, not deltas), of the buckets ``offsets[i]``,
    ``offsets[i] + 1``, … Bucket k of schema s is for values in (2^((k - 1) · 2^-s), 2^(k · 2^-s)], as in Prometheus;
    OTLP's index is one less. With custom bounds bucket k is for values in (bounds[k - 1], bounds[k]].
    """

    offsets: NDArray[np.int32]
    """n."""
    starts: NDArray[np.int64]
    """n + 1."""
    counts: NDArray[np.float64]
    """As many as there are buckets in all."""


CUSTOM_BOUNDS_SCHEMA = -53
"""The schema of native histograms whose buckets have bounds of their own."""


@dataclass(frozen=True, slots=True)
class NativeHistograms:
    """Native histograms of a series in columns: n rows, ascending by time."""

    times: NDArray[np.int64]
    """Milliseconds since the epoch."""
    schemas: NDArray[np.int8]
    """-4 to 8, or `CUSTOM_BOUNDS_SCHEMA`."""
    zero_thresholds: NDArray[np.float64]
    zero_counts: NDArray[np.float64]
    counts: NDArray[np.float64]
    sums: NDArray[np.float64]
    """A stale marker here says that the series ended."""
    positive: Buckets
    negative: Buckets
    hints: NDArray[np.uint8] | None = None
    """What is known of resets of the counter: 0 nothing, 1 reset here, 2 no reset here, 3 a gauge. None: all 0."""
    bounds: Sequence[NDArray[np.float64]] | None = None
    """Upper bounds of the buckets but for the last (+Inf), by row, with `CUSTOM_BOUNDS_SCHEMA`."""


@dataclass(frozen=True, slots=True)
class Series:
    """The samples of one series in the range that was asked for, ascending by time."""

    labels: dict[str, str]
    """As `Labels`. Not to be changed once it is here."""
    times: NDArray[np.int64]
    """Milliseconds since the epoch. Series whose arrays of times are *one* object are evaluated together, which is
    quicker: share it where samples came together."""
    values: NDArray[np.float64]
    """As many as `times`; `STALE` where the series ended."""
    histograms: NativeHistograms | None = None


@dataclass(frozen=True, slots=True)
class Hints:
    """What the language will do with the series; a querier may ignore all of it."""

    step: int = 0
    """Milliseconds between steps; 0 for an instant query."""
    range: int = 0
    """Milliseconds that are looked back at from each step: of the range selector, else the look-back. 0: not known."""
    func: str = ""
    """The function or aggregation right above the selector."""
    grouping: tuple[str, ...] = ()
    by: bool = False
    """Whether the aggregation groups *by* `grouping` (else *without*)."""
    last_only: bool = False
    """Only the last sample of each look-back before each step counts, not every sample of the range. The last step is
    the end of what is asked for."""


class Querier(Protocol):
    """Reads series. Synchronous, for worker threads; raises the errors of ``gateway.query.errors``."""

    def select(self, matchers: Sequence[Matcher], start: int, end: int, hints: Hints) -> Sequence[Series]:
        """Return the series that match, each once, with their samples in (start, end], milliseconds since the epoch.

        A series without a sample there may be left out. The order is the querier's own, but the same at each call.
        """
        ...

    def series(self, matchers: Sequence[Sequence[Matcher]], start: int, end: int, limit: int = 0) -> list[Labels]:
        """Return the labels of the series that match any of the lists of matchers in the time; `limit` 0 is none."""
        ...

    def label_names(self, matchers: Sequence[Sequence[Matcher]], start: int, end: int, limit: int = 0) -> list[str]:
        """Return the names of labels of the series that match (all, without matchers), sorted."""
        ...

    def label_values(
        self, name: str, matchers: Sequence[Sequence[Matcher]], start: int, end: int, limit: int = 0
    ) -> list[str]:
        """Return the values of a label of the series that match (all, without matchers), sorted."""
        ...
