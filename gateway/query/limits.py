"""What a query may touch, and what it has touched: the bounds that keep one from taking the machine."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.query.errors import LimitExceededError, QueryCanceledError, QueryTimeoutError


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one query. ``names`` says, for messages, where each is set."""

    series: int = 100_000
    """Series of the store that are read."""
    samples: int = 50_000_000
    """Samples that are read."""
    size: int = 2**30
    """Bytes that PostgreSQL sends."""
    seconds: float = 60.0
    """From the beginning, until the query is given up."""


UNBOUNDED = Limits(series=sys.maxsize, samples=sys.maxsize, size=sys.maxsize, seconds=math.inf)
"""For whoever reads on a machine of their own, and stops when they have enough."""


class Large:
    """The one query at a time that may have ``size`` bytes or more in memory; the others wait until it is over."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._taken = threading.Lock()

    def take(self, usage: Usage) -> None:
        """Wait for the place. Raises `QueryTimeoutError` and `QueryCanceledError`."""
        while not self._taken.acquire(timeout=min(_LOOK, usage.seconds_left)):
            if not usage.seconds_left:
                raise QueryTimeoutError(
                    f"the query needs more than {self.size / 2**20:g} MiB, and others that do took all of its time: "
                    "ask again, or for less, or raise query.large_query"
                )
            usage.check()

    def give_back(self) -> None:
        """Leave the place to others."""
        self._taken.release()


_LOOK = 0.1
"""Seconds between two looks at whether somebody still waits for a query that waits itself."""
_BYTES = 24
"""That a sample takes while a query is worked out: as it was read, put in order, and beside others of its series."""
_SENT = 2
"""How many times what PostgreSQL sends is there: as it came, and put together."""


class Usage:
    """What one query has taken of its bounds so far; `cancel` may be called from any thread.

    ``large`` is what it waits for before it takes more memory than most: without it, it never does.
    """

    def __init__(self, limits: Limits, large: Large | None = None) -> None:
        self.limits = limits
        self.series = self.samples = self.size = 0
        self._large = large
        self._is_large = False
        self._ends = time.monotonic() + limits.seconds
        self._canceled = threading.Event()
        self._lock = threading.Lock()
        self._interrupt: Callable[[], None] | None = None

    @property
    def canceled(self) -> bool:
        """Whether the query is to end."""
        return self._canceled.is_set()

    @property
    def seconds_left(self) -> float:
        """How long the query may go on; 0 when its time is over."""
        return max(self._ends - time.monotonic(), 0.0)

    def check(self) -> None:
        """Raise `QueryCanceledError` or `QueryTimeoutError` when the query is to end."""
        if self._canceled.is_set():
            raise QueryCanceledError("the query was canceled: whoever asked has gone, or the hub stops")
        if self.seconds_left == 0:
            raise QueryTimeoutError(
                f"the query took longer than {self.limits.seconds:g} s; ask for less, or raise query.timeout"
            )

    def cancel(self) -> None:
        """End the query, and what PostgreSQL does for it."""
        self._canceled.set()
        with self._lock:
            if self._interrupt is not None:
                self._interrupt()

    def interruptible(self, interrupt: Callable[[], None] | None) -> None:
        """Say how what waits can be ended; None: nothing waits."""
        with self._lock:
            self._interrupt = interrupt

    def needs(self, samples: int = 0, size: int = 0) -> None:
        """Say that so many samples and bytes are needed now, besides what was read. Waits where that makes the query a
        large one, while another one is there. Raises `QueryTimeoutError` and `QueryCanceledError`."""
        if self._large is None or self._is_large:
            return
        if _BYTES * (self.samples + samples) + _SENT * self.size + size >= self._large.size:
            self._large.take(self)
            self._is_large = True

    def release(self) -> None:
        """Say that the query needs no memory any more."""
        if self._large is not None and self._is_large:
            self._is_large = False
            self._large.give_back()

    def add_series(self, count: int) -> None:
        """Count series that are read. Raises `LimitExceededError`."""
        self.series += count
        if self.series > self.limits.series:
            self._exceeded("series", self.limits.series, "max_series", "name a metric, or match more labels")

    def add_samples(self, count: int) -> None:
        """Count samples that are read. Raises `LimitExceededError`."""
        self.samples += count
        if self.samples > self.limits.samples:
            self._exceeded("samples", self.limits.samples, "max_samples", "ask for fewer series or a shorter time")
        self.needs()

    def add_size(self, count: int) -> None:
        """Count bytes that PostgreSQL sent. Raises `LimitExceededError`."""
        self.size += count
        if self.size > self.limits.size:
            self._exceeded(
                "bytes from the store", self.limits.size, "max_bytes", "ask for fewer series or a shorter time"
            )
        self.needs()

    def _exceeded(self, what: str, allowed: int, setting: str, advice: str) -> None:
        raise LimitExceededError(
            f"the query touches more than {allowed:,} {what}: {advice}, or raise query.{setting}", setting, allowed
        )
