"""Regular expressions of queries: whole values, RE2's syntax, no time to lose."""

import pytest

from gateway.query import regexes
from gateway.query.errors import BadQueryError
from gateway.query.regexes import Regex


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("a|b", ["a", "b"], ["ab", "", "xa"]),
        ("", [""], ["a"]),
        ("a|", ["a", ""], ["b"]),
        ("a.*", ["a", "a\nb"], ["ba"]),
        ("(?i)get", ["GET", "get"], ["gets"]),
        ("[0-9]{3}", ["404"], ["4040"]),
    ],
)
def test_whole_values_match(pattern: str, matching: list[str], other: list[str]) -> None:
    compiled = Regex(pattern)
    assert all(compiled.matches(value) for value in matching)
    assert not any(compiled.matches(value) for value in other)


def test_plain_alternatives_are_words_for_an_index() -> None:
    assert Regex("a|b").words == {"a", "b"}
    assert Regex("a.b").words is None


def test_templates_are_filled_as_go_fills_them() -> None:
    compiled = Regex("(?P<host>[^:]+):([0-9]+)")
    assert compiled.expand("db:5432", "$host/${2}x$2x$$-$9|$") == "db/5432x$-|$"
    assert Regex("a").expand("b", "$1") is None


def test_what_re2_does_not_take_is_refused() -> None:
    for pattern in (r"(a)\1", "(?=a)", "[", "a{9999}", "a" * 70_000):
        with pytest.raises(BadQueryError):
            Regex(pattern)


def test_what_backtracking_would_never_end_is_quick() -> None:
    assert not Regex("(a+)+b").matches("a" * 100_000)


def test_without_re2_plain_alternatives_still_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regexes, "re2", None)
    assert Regex("a|b").matches("a")
    with pytest.raises(BadQueryError, match="google-re2"):
        Regex("a.*")
