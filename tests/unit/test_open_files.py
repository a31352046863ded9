"""How many files a hub may have open."""

from __future__ import annotations

import resource

import pytest

from gateway.supervisor import allow_many_files

INFINITY = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((1024, 4096), (4096, 4096)),
        ((1024, 1_048_576), (65_536, 1_048_576)),
        ((1024, INFINITY), (65_536, INFINITY)),
        ((100_000, 200_000), (100_000, 200_000)),
        ((INFINITY, INFINITY), (INFINITY, INFINITY)),
    ],
)
def test_a_hub_takes_what_it_may_have(
    monkeypatch: pytest.MonkeyPatch, before: tuple[int, int], after: tuple[int, int]
) -> None:
    now = [before]
    monkeypatch.setattr(resource, "getrlimit", lambda _: now[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: now.append(limits))
    allow_many_files()
    assert now[-1] == after


def test_a_hub_that_may_not_have_more_starts_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    allow_many_files()
