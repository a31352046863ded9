"""Expressions that take linear time find what Python's find."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.processors.common.patterns import Pattern, PatternError

EXPRESSIONS = [
    *(r"a+b", r"(ab|a)(c|bcd)?", r"^foo$", r"\bfoo\b", r"[a-c]{2,3}", r"(?i)Hello", r"x*", r"a(b|c)*d", r"(?:a|b){2}"),
    *(
        r"\w+@\w+\.\w{2,}",
        r"[^a]b",
        r"^a|b$",
        r"a?b?c?",
        r"\Bo",
        r"(a*)b|c$",
        r"a{2,}",
        r"(a+)+b",
        r"[\]a\-]",
        r"\\d|\.",
    ),
]
texts = st.text("abcd foHELlo@._\n]-\\ä1", max_size=14)


@given(st.sampled_from(EXPRESSIONS), texts)
def test_what_is_found_is_what_python_finds(expression: str, text: str) -> None:
    pattern, theirs = Pattern(expression), re.compile(expression.replace("$", r"\Z"))
    assert pattern.search(text) == bool(theirs.search(text))
    assert pattern.fullmatch(text) == bool(theirs.fullmatch(text))


@given(st.sampled_from(EXPRESSIONS), texts)
def test_spans_begin_where_pythons_do_and_do_not_overlap(expression: str, text: str) -> None:
    found = Pattern(expression).spans(text)
    theirs = [
        match.start() for match in re.finditer(expression.replace("$", r"\Z"), text) if match.end() > match.start()
    ]
    assert [start for start, _ in found[:1]] == theirs[:1]
    behind = 0
    for start, end in found:
        assert behind <= start < end
        behind = end


def test_of_matches_that_begin_at_the_same_place_the_longest_is_taken() -> None:
    assert Pattern("a|ab|abc").spans("xabcx") == [(1, 4)]


@pytest.mark.parametrize("expression", [r"(a+)+$", r"(a|a)*b", r"(a+a+)+b", r"(a|aa|a?)*c"])
def test_what_makes_others_go_back_for_ever_is_gone_through_once(expression: str) -> None:
    text = "a" * 20_000 + "!"
    assert not Pattern(expression).search(text)
    assert Pattern(expression).spans(text) == []


def test_where_the_ends_take_too_long_the_rest_counts_as_found() -> None:
    # Each of these looks for its end as far as the text goes, and finds none.
    (*_, last) = Pattern("a(.*b)?").spans("a" * 1_000)
    assert last[1] == 1_000


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("(a", "'(' without its ')' at character 1"),
        ("a)", "unexpected ')' at character 2"),
        ("[a", "'[' without its ']' at character 1"),
        ("*a", "'*' has nothing before it to repeat at character 1"),
        ("a**", "a repeat of a repeat at character 3"),
        ("a{2,1}", "expected a repeat"),
        ("a{x}", "expected a repeat such as {3}"),
        ("a{1000}", "expected a repeat of at most"),
        ("(a{90}){90}", "it repeats too much"),
        (r"(?=a)", "there is no looking around"),
        (r"(a)\1", r"'\1' is not known at character 4"),
        ("a\\", "nothing behind it"),
        ("[z-a]", "a range that goes backwards"),
        ("(" * 100, "nested too deeply"),
    ],
)
def test_what_is_no_expression_is_told_with_its_place(expression: str, why: str) -> None:
    with pytest.raises(PatternError, match=re.escape(why)):
        Pattern(expression)
