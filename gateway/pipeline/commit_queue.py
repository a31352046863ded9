"""The queue of one exporter: batches that wait for their commit.

While one commit is under way, batches gather; the next commit takes them. There is no timer: at low load a batch waits
for nothing, at high load commits grow by themselves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from gateway.component.errors import DeliveryError, UnavailableError
from gateway.component.interfaces import Exporter, Prepared
from gateway.pipeline.attempts import report

_COMMIT_BYTES = 16 * 2**20
"""Payload in one commit, unless a single batch is larger. At full load it is reached, and costs nothing any more."""


@dataclass(slots=True, eq=False)
class Pending:
    """A prepared batch, and the promise to the one who delivered it.

    ``settled``: the attempt has an answer for it. ``spooled``: it is in the spool, or about to be. ``answered``: it was
    told what became of it. Whoever delivered it waits for `done`, or has ``then`` called with the error or None.
    """

    prepared: Prepared
    settled: bool = False
    spooled: bool = False
    answered: bool = False
    then: Callable[[DeliveryError | None], None] | None = None
    _done: asyncio.Future[None] | None = field(default=None, init=False)

    @property
    def done(self) -> asyncio.Future[None]:
        """What comes true when it is durable. To be asked for before that."""
        if self._done is None:
            self._done = asyncio.get_running_loop().create_future()
        return self._done

    def succeed(self) -> None:
        """Answer that it is durable, unless it was answered before."""
        self._answer(None)

    def fail(self, error: DeliveryError) -> None:
        """Answer that it is not, unless it was answered before."""
        self._answer(error)

    def _answer(self, error: DeliveryError | None) -> None:
        if self.answered:
            return
        self.answered = True
        if self.then is not None:
            self.then(error)
        elif error is None:
            if not self.done.done():
                self.done.set_result(None)
        elif not self.done.done():
            self.done.set_exception(error)


class CommitQueue:
    """The batches that wait, in order. Each of the exporter's lanes takes what has gathered when it is free."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._pending: deque[Pending] = deque()
        self._arrived = asyncio.Event()

    def put(self, prepared: Prepared) -> Pending:
        """Have a batch wait for the next commit."""
        pending = Pending(prepared)
        self._pending.append(pending)
        self._arrived.set()
        return pending

    def take_all(self) -> list[Pending]:
        """Take what waits, so that no commit gets it."""
        taken = list(self._pending)
        self._pending.clear()
        return taken

    async def run_lane(self, commit: Callable[[list[Pending]], Awaitable[None]]) -> None:
        """Hand what has gathered to ``commit``, which answers for it, again and again until cancelled."""
        while True:
            while not self._pending:
                self._arrived.clear()
                await self._arrived.wait()
            gathered = self._gather()
            try:
                await commit(gathered)
            except asyncio.CancelledError:
                fail_all(gathered, shutting_down())
                raise
            except Exception as error:
                # A bug must not lose data: the clients keep these batches.
                fail_all(gathered, UnavailableError("the gateway failed to store this batch; see its log"))
                report(error)

    def _gather(self) -> list[Pending]:
        """Take what waits, up to what commits well before it would count as slow."""
        gathered = [self._pending.popleft()]
        size = len(gathered[0].prepared.batch.payload)
        most = self._exporter.batches_per_commit
        while self._pending and len(gathered) != most:
            if (size := size + len(self._pending[0].prepared.batch.payload)) > _COMMIT_BYTES:
                break
            gathered.append(self._pending.popleft())
        return gathered


def fail_all(batches: Iterable[Pending], error: DeliveryError) -> None:
    """Answer for several batches that they are not durable."""
    for pending in batches:
        pending.fail(error)


def shutting_down() -> UnavailableError:
    """Return what those are told whose batches come or wait as the gateway stops."""
    return UnavailableError("the gateway is shutting down; send this batch again")
