"""Deliveries that come again.

A signature is over the body alone, so whoever has seen one delivery can send it again under any id. GitHub never sends
one body under two ids: what was pushed, and when, is in it.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from gateway.extensions.tokens.limits import Rate

Answer = TypeVar("Answer")

_MOST = 1000
_PER_SECOND = 1.0
_AT_ONCE = 20.0


class Replays(Generic[Answer]):
    """Remembers the last deliveries by their signatures, and what to answer to each when it comes again.

    The store remembers them for longer, and for all gateways; here they cost neither a span nor the store anything.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._rate = Rate(_PER_SECOND, clock(), burst=_AT_ONCE)

    def add(self, signature: str, answer: Answer) -> None:
        """Remember a delivery that was answered for good."""
        self._answers[signature] = answer
        if len(self._answers) > _MOST:
            self._answers.popitem(last=False)

    def find(self, signature: str) -> Answer | None:
        """Return the answer to a delivery that is remembered."""
        return self._answers.get(signature)

    def wait(self) -> float:
        """Count a delivery that came again. Returns 0, or the seconds to wait when there are too many."""
        return self._rate.take(self._clock())


def identity_of(signature: str) -> str:
    """Return what the store remembers a signed body by: no id that GitHub gives, and not the signature itself."""
    return "signed:" + hashlib.sha256(signature.encode()).hexdigest()
