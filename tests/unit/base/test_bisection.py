"""What is refused is taken apart until the bad parts stand alone, and what is left can be gone on with."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.base.bisection import bisect_refused, halves_of

BAD = frozenset({3, 6})


@pytest.fixture
def attempted() -> list[list[int]]:
    return []


async def test_every_bad_item_stands_alone_in_the_end_and_the_good_ones_are_taken_once(
    attempted: list[list[int]],
) -> None:
    taken: list[int] = []

    async def attempt(part: Sequence[int]) -> str | None:
        attempted.append(list(part))
        if BAD.intersection(part):
            return "bad"
        taken.extend(part)
        return None

    refused = [(list(part), why) async for part, why in bisect_refused([range(8)], attempt, halves_of)]
    assert refused == [([3], "bad"), ([6], "bad")]
    assert taken == [0, 1, 2, 4, 5, 7]
    assert attempted[0] == list(range(8))


async def test_what_is_not_to_be_taken_apart_is_refused_as_it_is() -> None:
    async def refuse(part: Sequence[int]) -> str | None:
        return "bad"

    async def never(part: Sequence[int], why: str) -> None:
        return None

    assert [part async for part, _ in bisect_refused([range(4)], refuse, never)] == [range(4)]


async def test_after_an_interruption_it_goes_on_with_what_is_left() -> None:
    parts: list[Sequence[int]] = [range(4)]
    away = True
    taken: list[int] = []

    async def attempt(part: Sequence[int]) -> str | None:
        if len(part) == 4:
            return "bad"
        if away and 2 in part:
            raise TimeoutError
        taken.extend(part)
        return None

    async def go() -> None:
        async for _ in bisect_refused(parts, attempt, halves_of):
            pytest.fail("nothing is refused in the end")

    with pytest.raises(TimeoutError):
        await go()
    away = False
    await go()
    assert taken == [0, 1, 2, 3]
