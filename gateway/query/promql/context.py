"""What is the same for all of one query: where it reads, what it may use, and what is to be said about its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.query.annotations import Annotations
from gateway.query.errors import LimitExceededError, QueryCanceledError, QueryTimeoutError
from gateway.query.promql.histogram import Histogram
from gateway.query.promql.lexer import place
from gateway.query.promql.nodes import Node, unparenthesized
from gateway.query.series import Hints, Matcher, Querier, Series

_CELL = 9
"""Bytes of a cell of a vector: its value, and whether it is there."""
_HISTOGRAM = 32
"""What a native histogram takes besides its buckets, in values of 8 bytes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one query may touch and make."""

    samples: int = 50_000_000
    """Samples read for one query, as Prometheus's ``--query.max-samples``."""
    series: int = 1_000_000
    """Series of one selector, and of one result of an operator."""
    cells: int = 10_000_000
    """Series times steps of one vector."""
    held: int = 40_000_000
    """Values of all vectors and scalars that wait for the other operands of their operators."""
    buckets: int = 100_000_000
    """Values of native histograms that operators make: 8 bytes each."""
    characters: int = 50_000_000
    """Characters of the labels that label_replace() and label_join() make."""
    seconds: float = 120.0
    """Time that a query may take."""


@dataclass(slots=True)
class Context:
    """One query while it is evaluated."""

    text: str
    querier: Querier
    limits: Limits
    lookback: int
    """Milliseconds that a sample counts for, after its time."""
    default_step: int
    """Milliseconds between the steps of a subquery that names none."""
    start: int
    """The first step of the whole query, milliseconds."""
    end: int
    """The end that was asked for, milliseconds."""
    step: int
    """Milliseconds between steps of the whole query; 0 for an instant query."""
    canceled: Callable[[], bool] | None = None
    needs: Callable[[int], None] | None = None
    """Told how many bytes vectors are about to take, besides samples; may wait for other queries, and raise."""
    annotations: Annotations = field(default_factory=Annotations)
    held: int = 0
    """Values that wait for other operands at the moment: what `hold` has added. Whoever evaluates an expression sets it
    back to what it was before, as all that the expression was made of can go then."""
    _buckets: int = 0
    _characters: int = 0
    _deadline: float = 0.0
    _samples: int = 0

    def __post_init__(self) -> None:
        self._deadline = time.monotonic() + self.limits.seconds

    def check(self) -> None:
        """Raise where the query is to end: nobody waits for it any more, or it took too long."""
        if self.canceled is not None and self.canceled():
            raise QueryCanceledError("query was canceled in expression evaluation")
        if time.monotonic() > self._deadline:
            raise QueryTimeoutError(
                f"query timed out in expression evaluation after {self.limits.seconds:g} seconds: "
                "ask for fewer series, a shorter range or larger steps"
            )

    def check_size(self, series: int, steps: int) -> None:
        """Raise where a vector of so many series and steps is more than a query may make."""
        self.check()
        if series > self.limits.series:
            raise LimitExceededError(
                f"query processing would make {series} series, of at most {self.limits.series}",
                "series",
                self.limits.series,
            )
        if series * steps > self.limits.cells:
            raise LimitExceededError(
                f"query processing would make {series} series at {steps} steps: {series * steps} values, of at most "
                f"{self.limits.cells}; ask for fewer series, a shorter range or larger steps",
                "cells",
                self.limits.cells,
            )
        if self.needs is not None:
            self.needs(_CELL * (self.held + series * steps))

    def hold(self, values: int) -> None:
        """Count values that stay while others are worked out. Raises where they are more than a query may have."""
        self.held += values
        if self.held > self.limits.held:
            raise LimitExceededError(
                f"query processing would hold more than {self.limits.held} values at once; nest less, or ask for fewer "
                "series, a shorter range or larger steps",
                "held",
                self.limits.held,
            )

    def make_histogram(self, histogram: Histogram) -> None:
        """Count a native histogram that is made. Raises where they are more than a query may make."""
        self._buckets += _HISTOGRAM + len(histogram.positive.counts) + len(histogram.negative.counts)
        if self._buckets > self.limits.buckets:
            raise LimitExceededError(
                f"query processing would make native histograms of more than {self.limits.buckets} values; ask for "
                "fewer series, a shorter range or larger steps",
                "buckets",
                self.limits.buckets,
            )
        if self.needs is not None:
            self.needs(_CELL * (self.held + self._buckets))

    def make_label(self, characters: int) -> None:
        """Count the value of a label before it is made. Raises where all are longer than a query may make them."""
        self._characters += characters
        if self._characters > self.limits.characters:
            raise LimitExceededError(
                f"query processing would make labels of more than {self.limits.characters} characters",
                "characters",
                self.limits.characters,
            )

    def select(self, matchers: Sequence[Matcher], start: int, end: int, hints: Hints) -> Sequence[Series]:
        """Return series with their samples in (start, end]. Raises where they are more than a query may read."""
        self.check()
        found = self.querier.select(matchers, start, end, hints)
        self.check()
        if len(found) > self.limits.series:
            raise LimitExceededError(
                f"query selects {len(found)} series, of at most {self.limits.series}", "series", self.limits.series
            )
        for series in found:
            self._samples += len(series.times)
            if series.histograms is not None:
                self._samples += len(series.histograms.times) + len(series.histograms.positive.counts)
        if self._samples > self.limits.samples:
            raise LimitExceededError(
                f"query processing would load too many samples into memory: more than {self.limits.samples}",
                "samples",
                self.limits.samples,
            )
        return found

    def warn(self, node: Node, text: str) -> None:
        """Add a warning about an expression."""
        self.annotations.warn(f"PromQL warning: {text} ({place(self.text, unparenthesized(node).start)})")

    def info(self, node: Node, text: str) -> None:
        """Add an info about an expression."""
        self.annotations.info(f"PromQL info: {text} ({place(self.text, unparenthesized(node).start)})")
