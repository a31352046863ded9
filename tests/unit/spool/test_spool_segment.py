"""The format of a segment: whatever happens to its bytes, what is intact is found and nothing is made up."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.component import Batch, Signal
from gateway.component.batch import digest
from gateway.pipeline.spool import Damage, Record, scan
from gateway.pipeline.spool.segment import HEADER_SIZE, MARK, encode, record_size
from tests.unit.spool.conftest import batch

payloads = st.binary(max_size=60) | st.lists(st.sampled_from([MARK, b"\0\0\0\0", b"\0\0\0\x05", b"x"])).map(b"".join)
batches = st.builds(Batch.of, st.sampled_from(Signal), payloads, own_telemetry=st.booleans())


def records(data: bytes) -> list[Batch]:
    return [item.batch for item in scan(data) if isinstance(item, Record)]


def damages(data: bytes) -> list[Damage]:
    return [item for item in scan(data) if isinstance(item, Damage)]


@given(st.lists(batches, max_size=8))
def test_what_is_written_is_read_back_in_order(written: list[Batch]) -> None:
    data = b"".join(map(encode, written))
    assert records(data) == written
    assert damages(data) == []
    assert len(data) == sum(map(record_size, written))


@given(st.lists(batches, min_size=1, max_size=5), st.data())
def test_a_torn_end_costs_nothing_before_it(written: list[Batch], data: st.DataObject) -> None:
    whole = b"".join(map(encode, written))
    start = len(whole) - record_size(written[-1])
    cut = data.draw(st.integers(start, len(whole) - 1))
    assert records(whole[:cut]) == written[:-1]
    assert damages(whole[:cut]) == ([Damage(start, cut, torn=True)] if cut > start else [])


def test_a_segment_cut_at_every_single_byte_is_read_up_to_there() -> None:
    written = [batch(number, 30) for number in range(3)]
    whole, size = b"".join(map(encode, written)), record_size(written[0])
    for cut in range(len(whole)):
        assert records(whole[:cut]) == written[: cut // size]
        assert [damage.torn for damage in damages(whole[:cut])] == ([True] if cut % size else [])


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_damage_at_any_byte_of_a_record_in_the_middle_is_that_record_s_alone(flip: int) -> None:
    written = [batch(number, 30) for number in range(5)]
    whole, size = b"".join(map(encode, written)), record_size(written[0])
    for at in range(2 * size, 3 * size):
        damaged = bytearray(whole)
        damaged[at] ^= flip
        assert records(bytes(damaged)) == written[:2] + written[3:], f"byte {at - 2 * size} of the record"
        assert damages(bytes(damaged)) == [Damage(2 * size, 3 * size, torn=False)]


def test_a_last_record_that_is_all_there_but_wrong_is_damage_and_no_torn_end() -> None:
    whole = bytearray(encode(batch(1)) + encode(batch(2)))
    whole[-1] ^= 1
    assert records(bytes(whole)) == [batch_like(1, bytes(whole))]
    assert damages(bytes(whole)) == [Damage(len(whole) // 2, len(whole), torn=False)]


def batch_like(number: int, data: bytes) -> Batch:
    """The batch of that number with the time of arrival that was written."""
    first = records(data)[0]
    assert first.payload == batch(number).payload
    return first


def test_a_record_within_the_payload_of_a_damaged_one_is_not_taken_for_a_batch() -> None:
    inner = encode(batch(99))
    outer = Batch.of(Signal.LOGS, b"prefix" + inner + b"suffix")
    data = bytearray(encode(outer) + encode(batch(2)))
    data[HEADER_SIZE] ^= 1
    assert [each.payload for each in records(bytes(data))] == [batch(2).payload]


def test_marks_with_long_lengths_do_not_keep_the_reader_for_ever() -> None:
    # Each mark promises a record of a megabyte: checked one by one that would be 250 GB to checksum.
    marks = (MARK + (2**20).to_bytes(4, "big")) * 250_000
    data = bytearray(encode(Batch.of(Signal.LOGS, marks)) + encode(batch(1)))
    data[4] ^= 0x7F  # the length of the first, so that it does not lead to the second
    assert all(isinstance(item, Damage) and not item.torn for item in scan(bytes(data)))
    data[4] ^= 0x7F
    data[HEADER_SIZE] ^= 1
    assert [each.payload for each in records(bytes(data))] == [batch(1).payload]


@given(st.binary(max_size=400) | st.lists(st.sampled_from([MARK, encode(batch(0)), b"\0", b"\xf1"])).map(b"".join))
@example(MARK * 30)
@example(MARK + b"\xff" * 100)
@example(b"\0" * 500)
def test_arbitrary_bytes_are_covered_without_gap_and_nothing_is_made_up(data: bytes) -> None:
    at = 0
    for item in scan(data):
        if isinstance(item, Record):
            assert item.batch.digest == digest(item.batch.signal, item.batch.payload)
            at += record_size(item.batch)
            assert item.end == at
        else:
            assert item.start == at < item.end
            at = item.end
    assert at == len(data)


@given(st.lists(batches, min_size=1, max_size=6, unique_by=lambda each: each.digest), st.data())
def test_mutations_of_a_segment_never_make_a_batch_that_was_not_written(
    written: list[Batch], data: st.DataObject
) -> None:
    whole = bytearray(b"".join(map(encode, written)))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, max(len(whole) - 1, 0)))
        match data.draw(st.sampled_from(["flip", "cut out", "insert", "zero"])):
            case "flip" if whole:
                whole[at] ^= data.draw(st.integers(1, 255))
            case "cut out":
                del whole[at : at + data.draw(st.integers(1, 30))]
            case "insert":
                whole[at:at] = data.draw(st.binary(min_size=1, max_size=30) | st.just(MARK))
            case _:
                length = len(whole[at : at + 16])
                whole[at : at + length] = bytes(length)
    found = records(bytes(whole))
    assert all(each in written for each in found)
    assert found == [each for each in written if each in found], "the order is kept"


def test_a_single_flipped_bit_anywhere_in_a_large_segment_costs_one_record_at_most() -> None:
    chance = random.Random(7)
    written = [Batch.of(Signal.LOGS, chance.randbytes(chance.randrange(0, 300))) for _ in range(300)]
    whole = b"".join(map(encode, written))
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        assert len(records(bytes(damaged))) >= len(written) - 1
