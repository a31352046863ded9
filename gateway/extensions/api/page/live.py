"""What changes on a page is pushed to it, by server-sent events.

There is one reading for all pages that look at the same: it is made while somebody looks, and ends with the last of
them. A page that takes its time gets the newest, not all that it missed. What takes long to read is read less often,
and the page is told how often, by an event ``pace`` with a number of seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import structlog

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Key = TypeVar("Key", bound=Hashable)

MOST_STREAMS = 100
_FIRST_PAUSE = 1.0
_SHARE = 0.02
"""The part of the time that readings for one page may take."""
_CHEAP = 0.05
"""Seconds that no page is read less often for."""
_PAUSES = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds between two readings that are dear: few lengths, so that a page is not told another one each time."""
_KEPT_OPEN_SECONDS = 15.0
"""How long nothing may be sent, at most: what stands between takes a silent connection for a dead one."""


class TooManyStreamsError(Exception):
    """As many pages are open as may be."""


class NothingReadError(Exception):
    """There was nothing to read; its text is what to push instead. How long that took says nothing."""


class Live(Generic[Key]):
    """Pushes what a function makes. ``make`` returns the event of a key as text, such as HTML, or raises
    `NothingReadError`."""

    def __init__(
        self,
        make: Callable[[Key], Awaitable[str]],
        most: int = MOST_STREAMS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = make
        self._most = most
        self._clock = clock
        self._feeds: dict[Key, _Feed] = {}
        self._streams = 0
        self._closing = asyncio.Event()

    @property
    def streams(self) -> int:
        """How many pages look."""
        return self._streams

    @property
    def feeds(self) -> int:
        """How many readings are made for them."""
        return len(self._feeds)

    def close(self) -> None:
        """End all streams, now and from now on."""
        self._closing.set()
        for feed in self._feeds.values():
            feed.wake()

    def stream(self, key: Key, every: float) -> AsyncIterator[bytes]:
        """Return the events of a key, which is read every so many seconds, and sooner at first: who has just started a
        hub and opened its page waits for nothing. Raises `TooManyStreamsError`.
        """
        if self._streams >= self._most or self._closing.is_set():
            raise TooManyStreamsError
        self._streams += 1  # now, for many may be asked for before the first of them begins
        return self._events(key, every, _Place(self._leave))

    def _leave(self) -> None:
        self._streams -= 1

    async def _events(self, key: Key, every: float, place: _Place) -> AsyncIterator[bytes]:
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = _Feed()
            feed.reading = asyncio.create_task(self._read(key, feed, every), name="live reading")
        feed.lookers += 1
        try:
            seen = feed.version
            yield b"retry: 2000\n\n" + feed.pace
            while not self._closing.is_set():
                if feed.version == seen:
                    changed = feed.changed
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(changed.wait(), _KEPT_OPEN_SECONDS)
                if self._closing.is_set():
                    break
                if feed.version == seen:
                    yield b":\n\n"
                    continue
                seen = feed.version
                yield feed.event + feed.pace
        finally:
            place.leave()
            feed.lookers -= 1
            if feed.lookers == 0:
                del self._feeds[key]
                assert feed.reading is not None
                feed.reading.cancel()

    async def _read(self, key: Key, feed: _Feed, every: float) -> None:
        shown = ""
        pause = min(_FIRST_PAUSE, every)
        took: deque[float] = deque(maxlen=3)
        while True:
            await asyncio.sleep(pause)
            began = self._clock()
            try:
                made = await self._make(key)
                took.append(self._clock() - began)
            except asyncio.CancelledError:
                raise
            except NothingReadError as error:
                made = str(error)
            except Exception:
                _log.exception("a live reading failed")
                made = shown
            # The quickest of some says what it takes: others waited for what else the machine does.
            dear = pause_for(min(took, default=0.0), every)
            pause = dear or min(2 * pause, every)
            pace = b"event: pace\ndata: %d\n\n" % dear if dear or feed.pace else b""
            if made != shown or pace != feed.pace:
                shown, feed.pace = made, pace
                feed.push(event_of(made))


def pause_for(took: float, every: float) -> float:
    """Return after how many seconds to read again what took so long to read; 0 where ``every`` is long enough."""
    wanted = took / _SHARE
    if took <= _CHEAP or wanted <= every:
        return 0.0
    return next((pause for pause in _PAUSES if pause >= max(wanted, every)), max(_PAUSES[-1], every))


async def while_admitted(events: AsyncIterator[bytes], admits: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield events until whom they are for may not look any more. Each of them is asked about."""
    try:
        async for event in events:
            if not admits():
                return
            yield event
    finally:
        await events.aclose()  # type: ignore[attr-defined]


class _Place:
    """What a stream takes, until it is left or forgotten: who asked for it may be gone before it begins."""

    def __init__(self, left: Callable[[], None]) -> None:
        self._left: Callable[[], None] | None = left

    def leave(self) -> None:
        """Give it up; doing so again does nothing."""
        left, self._left = self._left, None
        if left is not None:
            left()

    def __del__(self) -> None:
        self.leave()


class _Feed:
    """The newest event of a key, and who waits for the next."""

    def __init__(self) -> None:
        self.lookers = 0
        self.version = 0
        self.event = b""
        self.pace = b""
        self.changed = asyncio.Event()
        self.reading: asyncio.Task[None] | None = None

    def push(self, event: bytes) -> None:
        self.event = event
        self.version += 1
        self.wake()

    def wake(self) -> None:
        """Let all who wait look again."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


def event_of(text: str) -> bytes:
    """Return a text as an event. Source: HTML Living Standard, "Server-sent events", 9.2.6."""
    return b"".join(b"data: %s\n" % line.encode() for line in text.splitlines()) + b"\n"
