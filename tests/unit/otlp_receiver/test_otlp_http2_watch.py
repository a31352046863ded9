"""What is taken for an attack, and what never is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receivers.otlp.http2.flood_guard import MAX_FRAME_SIZE, MAX_HEADER_BLOCK, AttackError, FloodGuard
from receivers.otlp.http2.frames import ErrorCodes
from tests.support.http2 import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PING, PREFACE, frame

PINGS = frame(PING, 0, 0, bytes(8))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> FloodGuard:
    watch = FloodGuard(clock)
    watch.see(PREFACE)
    return watch


def pings_until_cut_off(watch: FloodGuard) -> int:
    for count in range(100_000):
        try:
            watch.see(PINGS)
        except AttackError as error:
            assert error.code is ErrorCodes.ENHANCE_YOUR_CALM  # noqa: PT017
            return count
    raise AssertionError("never")


def test_credit_comes_back_with_time(watch: FloodGuard, clock: Clock) -> None:
    assert pings_until_cut_off(watch) == pytest.approx(4000, abs=2)
    clock.now += 3
    assert pings_until_cut_off(watch) == pytest.approx(600, abs=2)
    clock.now += 1000
    assert pings_until_cut_off(watch) == pytest.approx(4000, abs=2)


def test_a_client_whose_requests_are_answered_never_runs_out(watch: FloodGuard) -> None:
    """At any rate: ten frames of overhead for each request, and no time passes at all."""
    request = frame(HEADERS, END_HEADERS, 1, bytes(1000)) + 10 * PINGS + frame(DATA, END_STREAM, 1, b"\0" * 200)
    for _ in range(10_000):
        watch.see(request)
        watch.answered()


def test_a_thousand_requests_in_flight_are_no_attack(watch: FloodGuard) -> None:
    for stream in range(1, 2001, 2):
        watch.see(frame(HEADERS, END_HEADERS, stream, bytes(2000)) + frame(PING, 0, 0, bytes(8)))


def test_telemetry_costs_nothing(watch: FloodGuard) -> None:
    for _ in range(10_000):
        watch.see(frame(DATA, 0, 1, bytes(MAX_FRAME_SIZE)))


def test_padding_brings_nothing_on(watch: FloodGuard) -> None:
    padding = frame(DATA, PADDED, 1, b"\xff" + bytes(255))
    for _ in range(4_000):
        watch.see(padding)
    with pytest.raises(AttackError, match="bring nothing on"):
        watch.see(padding)


def test_data_that_is_padded_a_little_costs_nothing(watch: FloodGuard) -> None:
    for _ in range(10_000):
        watch.see(frame(DATA, PADDED, 1, b"\x10" + bytes(MAX_FRAME_SIZE - 1)))


def test_a_frame_that_comes_byte_by_byte_is_paid_for(watch: FloodGuard) -> None:
    """Each byte costs as much work as a frame."""
    watch.see(frame(DATA, 0, 1, bytes(MAX_FRAME_SIZE))[:9])
    for _ in range(4_000):
        watch.arrived(1)
        watch.see(b"\0")
    with pytest.raises(AttackError, match="bring nothing on"):
        watch.arrived(1)


def test_a_frame_that_comes_in_packets_is_not(watch: FloodGuard) -> None:
    content = frame(DATA, 0, 1, bytes(MAX_FRAME_SIZE))
    for _ in range(1_000):
        for at in range(0, len(content), 536):
            watch.arrived(len(content[at : at + 536]))
            watch.see(content[at : at + 536])


def test_a_frame_too_long_is_refused_by_its_head(watch: FloodGuard) -> None:
    with pytest.raises(AttackError) as caught:
        watch.see(frame(DATA, 0, 1, bytes(MAX_FRAME_SIZE + 1))[:9])
    assert caught.value.code is ErrorCodes.FRAME_SIZE_ERROR


def test_a_header_block_is_bounded_over_its_frames(watch: FloodGuard) -> None:
    block = [frame(HEADERS, 0, 1, bytes(16_000))]
    block += [frame(CONTINUATION, 0, 1, bytes(16_000))] * (MAX_HEADER_BLOCK // 16_000 - 1)
    for part in block:
        watch.see(part)
    with pytest.raises(AttackError, match="bytes of headers"):
        watch.see(frame(CONTINUATION, END_HEADERS, 1, bytes(16_000)))


def test_header_blocks_are_counted_one_by_one(watch: FloodGuard) -> None:
    for _ in range(20):
        watch.see(frame(HEADERS, END_HEADERS, 1, bytes(16_000)))


@given(st.lists(st.tuples(st.sampled_from([DATA, HEADERS, PING, 99]), st.integers(0, 600)), max_size=30), st.data())
def test_how_bytes_arrive_does_not_matter(frames: list[tuple[int, int]], data: st.DataObject) -> None:
    said = PREFACE + b"".join(frame(kind, END_HEADERS, 1, bytes(size)) for kind, size in frames)
    whole, pieces = FloodGuard(Clock()), FloodGuard(Clock())
    whole.see(said)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(said)), max_size=20)))
    for start, end in zip([0, *cuts], [*cuts, len(said)], strict=True):
        pieces.see(said[start:end])
    assert pings_until_cut_off(pieces) == pings_until_cut_off(whole)
