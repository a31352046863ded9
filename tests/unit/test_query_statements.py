"""SQL as text: what is one statement, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.statements import statements, writes


@pytest.mark.parametrize(
    ("sql", "count"),
    [
        ("", 0),
        (" ;; \n;", 0),
        ("-- a; b\n/* c; /* d; */ e; */", 0),
        ("/* never ends; SELECT 1", 0),
        ("SELECT 1", 1),
        ("SELECT 1;", 1),
        ("SELECT 1; -- done", 1),
        (r"""SELECT ';', ";", E'\';', $$;$$, $a$;$$;$a$, '''; '""", 1),
        ("SELECT 1; SELECT 2", 2),
        ("SELECT 'a'; 'b'", 2),
        ("SELECT 5 -1; SELECT -- c\n2", 2),
    ],
)
def test_statements_are_told_apart(sql: str, count: int) -> None:
    assert len(statements(sql)) == count


@pytest.mark.parametrize(
    ("sql", "changes"),
    [
        ("insert INTO log VALUES (1)", True),
        ("/* why */ DROP TABLE log", True),
        ("WITH gone AS (DELETE FROM log RETURNING 1) SELECT * FROM gone", True),
        ("SELECT comment, 'delete' FROM log", False),
        ("WITH a AS (SELECT 'delete') SELECT * FROM a -- insert", False),
    ],
)
def test_what_is_meant_to_change_something(sql: str, changes: bool) -> None:
    assert writes(sql) is changes


@given(st.text(alphabet="ab;'\"$-/*\\eE \n"))
def test_any_text_comes_to_an_end(sql: str) -> None:
    assert len(statements(sql)) <= sql.count(";") + 1
