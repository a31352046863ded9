"""A time range read from its end, piece by piece, until there is enough or the time for it is over.

What is newest is what people look at first, and it is found at once. Whoever looks for something rare is told how far
back was looked, and goes on from there, instead of waiting until months were read.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

_GROWS = 4


class Backwards:
    """Pieces of a time range, the newest first, each four times as long as the one before, or as there is time for.

    ``reached`` is how far back all was read: a piece counts once the next is asked for, or `enough` was said.
    """

    def __init__(
        self,
        start: datetime,
        end: datetime,
        seconds: float = 0.15,
        first: timedelta = timedelta(minutes=5),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``seconds`` is after how long no further piece is begun, from when the first was read: that one is planned by
        a session that may be new, which takes as long as many pieces."""
        self.start, self.end = start, end
        self.reached = end
        self._first = first
        self._seconds = seconds
        self._clock = clock

    def __iter__(self) -> Iterator[tuple[datetime, datetime]]:
        """Yield the start and the end of each piece."""
        until = None
        shortest = math.inf
        length = self._first
        while self.reached > self.start:
            begins = max(self.start, self.reached - length)
            began = self._clock()
            yield begins, self.reached
            ended = self._clock()
            self.reached = begins
            until = until or ended + self._seconds
            if ended >= until:
                return
            # The shortest says what any piece takes, and what is beyond that goes with its length.
            shortest = min(shortest, ended - began)
            beyond = ended - began - shortest
            left = max(until - ended - shortest, 0.0)
            length *= _GROWS if left >= _GROWS * beyond else max(left / beyond, 1.0)

    @property
    def is_whole(self) -> bool:
        """Whether all of the range was read."""
        return self.reached <= self.start
