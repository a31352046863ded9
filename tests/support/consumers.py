"""A consumer that keeps what it is given."""

from __future__ import annotations

from collections.abc import Callable

from gateway.component import ACCEPTED, Batch, Outcome, Signal


class Collecting:
    """Keeps batches. ``answer`` says what becomes of each; it may raise."""

    def __init__(self, answer: Callable[[Batch], Outcome] = lambda _: ACCEPTED) -> None:
        self.answer = answer
        self.batches: list[Batch] = []
        self.asked = 0

    async def accept(self, batch: Batch) -> Outcome:
        self.asked += 1
        outcome = self.answer(batch)
        self.batches.append(batch)
        return outcome

    def refuse(self, signal: Signal, reason: str, why: str = "", peer: str = "") -> None:
        raise AssertionError("it is no listener that hands over")

    def refuse_connection(self, listener: str, reason: str) -> None:
        raise AssertionError("it is no listener that hands over")
