"""What changes is read once for all who look, and not at all when nobody does."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

from gateway.extensions.api.page.live import (
    Live,
    NothingReadError,
    TooManyStreamsError,
    event_of,
    pause_for,
    while_admitted,
)

SOON = 0.001


class Readings:
    """Makes the events of a page: what `now` says. `made` counts how often that was asked."""

    def __init__(self) -> None:
        self.now = "first"
        self.made = 0
        self.often = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, key: str) -> str:
        self.made += 1
        if self.made >= 10:
            self.often.set()
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return f"{key}: {self.now}"


async def after_greeting(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    assert (await anext(stream)).startswith(b"retry:")
    return stream


async def test_all_who_look_at_the_same_share_one_reading() -> None:
    readings = Readings()
    live: Live[str] = Live(readings)
    streams = [await after_greeting(live.stream("a", SOON)) for _ in range(5)]
    assert (live.streams, live.feeds) == (5, 1)
    for stream in streams:
        assert await anext(stream) == b"data: a: first\n\n"
    other = await after_greeting(live.stream("b", SOON))
    assert await anext(other) == b"data: b: first\n\n"
    assert live.feeds == 2
    for stream in (*streams, other):
        await stream.aclose()  # type: ignore[attr-defined]
    assert (live.streams, live.feeds) == (0, 0)
    made = readings.made
    for _ in range(20):
        await asyncio.sleep(SOON)
    assert readings.made == made, "nobody looks any more"


async def test_only_what_has_changed_is_sent() -> None:
    readings = Readings()
    live: Live[str] = Live(readings)
    stream = await after_greeting(live.stream("a", SOON))
    assert await anext(stream) == b"data: a: first\n\n"
    next_event = asyncio.ensure_future(anext(stream))
    await readings.often.wait()
    assert not next_event.done()
    readings.now = "second"
    assert await next_event == b"data: a: second\n\n"
    await stream.aclose()  # type: ignore[attr-defined]


async def test_what_is_dear_is_read_less_often_and_the_page_is_told() -> None:
    seconds = 0.0

    async def make(key: str) -> str:
        nonlocal seconds
        seconds += 3
        return f"{key} after {seconds} s"

    live: Live[str] = Live(make, clock=lambda: seconds)
    stream = await after_greeting(live.stream("a", SOON))
    assert await anext(stream) == b"data: a after 3.0 s\n\nevent: pace\ndata: 300\n\n"
    late = live.stream("a", SOON)
    assert await anext(late) == b"retry: 2000\n\nevent: pace\ndata: 300\n\n"
    for each in (stream, late):
        await each.aclose()  # type: ignore[attr-defined]


async def test_how_long_nothing_could_be_read_counts_for_nothing() -> None:
    seconds = 0.0

    async def make(key: str) -> str:
        nonlocal seconds
        seconds += 20
        if seconds < 100:
            raise NothingReadError("away")
        return "back"

    live: Live[str] = Live(make, clock=lambda: seconds)
    stream = await after_greeting(live.stream("a", SOON))
    assert await anext(stream) == b"data: away\n\n"
    assert await anext(stream) == b"data: back\n\nevent: pace\ndata: 600\n\n"
    await stream.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("took", "every", "pause"),
    [
        (0.05, 3, 0), (0.2, 10, 0), (0.2, 60, 0), (0.21, 10, 15), (0.2, 3, 15), (1.1, 10, 60), (3, 10, 300),
        (3, 60, 300), (30, 10, 600), (30, 900, 900),
    ],
)  # fmt: skip
def test_readings_take_a_fiftieth_of_the_time(took: float, every: float, pause: float) -> None:
    assert pause_for(took, every) == pause


async def test_a_reading_that_fails_ends_nothing() -> None:
    readings = Readings()
    readings.error = RuntimeError("once")
    stream = await after_greeting(Live(readings).stream("a", SOON))
    assert await anext(stream) == b"data: a: first\n\n"
    await stream.aclose()  # type: ignore[attr-defined]


async def test_there_are_only_so_many_and_none_once_it_is_closed() -> None:
    live: Live[str] = Live(Readings(), most=2)
    streams = [await after_greeting(live.stream("a", 3600)) for _ in range(2)]
    with pytest.raises(TooManyStreamsError):
        live.stream("a", 3600)
    waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
    await asyncio.sleep(0)
    live.close()
    for each in waiting:
        with pytest.raises(StopAsyncIteration):
            await each
    assert live.streams == 0
    with pytest.raises(TooManyStreamsError):
        live.stream("a", 3600)


def test_an_event_keeps_its_lines_apart() -> None:
    """However a sender's text breaks its lines: it cannot end the event, and begin another."""
    assert event_of("a\nb\r\n\r\ndata: c\revent: x") == (b"data: a\ndata: b\ndata: \ndata: data: c\ndata: event: x\n\n")


async def test_streams_count_from_when_they_are_asked_for_until_they_are_forgotten() -> None:
    """A hundred browsers come back at once when a hub has started anew: all ask before the first gets anything."""
    live: Live[str] = Live(Readings(), most=2)
    asked = [live.stream("a", SOON), live.stream("b", SOON)]
    with pytest.raises(TooManyStreamsError):
        live.stream("c", SOON)
    asked.pop()  # which had not begun
    gc.collect()
    assert live.streams == 1
    (left,) = asked
    await after_greeting(left)
    await left.aclose()  # type: ignore[attr-defined]
    assert live.streams == 0


async def test_who_may_not_look_any_more_gets_nothing_more() -> None:
    """Somebody signs out in one tab, or a token is revoked: what is open elsewhere ends."""
    readings = Readings()
    live: Live[str] = Live(readings)
    admitted = True
    stream = await after_greeting(while_admitted(live.stream("a", SOON), lambda: admitted))
    assert await anext(stream) == b"data: a: first\n\n"
    admitted, readings.now = False, "secret"
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert live.streams == 0, "and it takes no place"
