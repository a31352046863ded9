"""``obs-hub query``: one statement, read-only, printed for people or for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import psycopg
import pytest

from tests.integration.cli.processes import HubProcess, obs_hub

Command = Callable[..., "CompletedProcess[str]"]
Query = Callable[..., str]


@pytest.fixture
def query(on_hub: Command) -> Query:
    """Run a query that succeeds, and return what it printed."""

    def run(sql: str, *options: str) -> str:
        done = on_hub("query", *options, sql)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


@pytest.fixture
def refused(on_hub: Command) -> Query:
    """Run a query that fails, and return its message."""

    def run(sql: str) -> str:
        done = on_hub("query", sql)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith("Error: ")
        return done.stderr.removeprefix("Error: ").rstrip("\n")

    return run


def test_a_table_has_a_header_rows_and_their_number(query: Query) -> None:
    shown = query("SELECT n AS number, 'row ' || n AS text FROM generate_series(1, 3) AS n")
    assert [line.split() for line in shown.splitlines() if "row" in line or "number" in line] == [
        ["┃", "number", "┃", "text", "┃"],
        ["│", "1", "│", "row", "1", "│"],
        ["│", "2", "│", "row", "2", "│"],
        ["│", "3", "│", "row", "3", "│"],
        ["(3", "rows)"],
    ]


def test_a_table_is_cut_after_a_thousand_rows_and_says_so(query: Query) -> None:
    shown = query("SELECT n FROM generate_series(1, 1001) AS n")
    assert shown.endswith("(the first 1000 rows; --csv and --json print all)\n")
    assert "1001" not in shown


def test_text_is_shown_as_it_is_whatever_it_holds(query: Query) -> None:
    assert "[bold]not markup[/bold]" in query("SELECT '[bold]not markup[/bold]' AS text")


def test_csv_has_a_header_line_and_all_rows(query: Query) -> None:
    rows = list(csv.reader(io.StringIO(query("SELECT n, n * 2 AS twice FROM generate_series(1, 1500) n", "--csv"))))
    assert rows[0] == ["n", "twice"]
    assert rows[1:] == [[str(n), str(2 * n)] for n in range(1, 1501)]


def test_csv_of_nothing_is_the_header_line(query: Query) -> None:
    assert query("SELECT 1 AS n, 2 AS m WHERE false", "--csv") == "n,m\n"


def test_csv_quotes_what_needs_it_and_writes_null_as_nothing(query: Query) -> None:
    sql = """SELECT E'a,"b"\\nc' AS text, NULL AS nothing, '{"k": [1, null]}'::jsonb AS nested, 'NaN'::float8 AS nan,
             timestamptz '2026-01-02 03:04:05.678901+00' AT TIME ZONE 'UTC' AS time"""
    header, row = csv.reader(io.StringIO(query(sql, "--csv")))
    assert header == ["text", "nothing", "nested", "nan", "time"]
    assert row == ['a,"b"\nc', "", '{"k": [1, null]}', "nan", "2026-01-02 03:04:05.678901"]


def test_json_is_an_array_of_objects(query: Query) -> None:
    assert json.loads(query("SELECT n, n % 2 = 0 AS even FROM generate_series(1, 2) n", "--json")) == [
        {"n": 1, "even": False},
        {"n": 2, "even": True},
    ]
    assert query("SELECT 1 AS n WHERE false", "--json") == "[]\n"


def test_json_keeps_what_is_nested_and_names_what_json_has_not(query: Query) -> None:
    sql = """SELECT '{"a": {"b": [1, "x", null]}}'::jsonb AS nested, ARRAY['NaN'::float8, 1, NULL] AS list,
             'NaN'::float8 AS nan, '-Infinity'::float8 AS low, 12.50::numeric AS exact, NULL AS nothing,
             timestamptz '2026-01-02 03:04:05+00' AT TIME ZONE 'UTC' AS time, ARRAY[date '2026-01-02'] AS days"""

    def complain(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    (record,) = json.loads(query(sql, "--json"), parse_constant=complain)
    assert record == {
        "nested": {"a": {"b": [1, "x", None]}},
        "list": ["nan", 1, None],
        "nan": "nan",
        "low": "-inf",
        "exact": "12.50",
        "nothing": None,
        "time": "2026-01-02T03:04:05",
        "days": ["2026-01-02"],
    }


def state_of(hub: HubProcess) -> list[tuple[object, ...]]:
    """What the statements below would change."""
    with psycopg.connect(hub.dsn) as connection:
        tables = "SELECT count(*) FROM pg_class"
        return connection.execute(
            f"SELECT epoch, (SELECT count(*) FROM receipt), ({tables}) FROM dimension_epoch"
        ).fetchall()


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO receipt (digest) VALUES (gen_random_uuid())",
        "UPDATE dimension_epoch SET epoch = 99",
        "DELETE FROM receipt",
        "DROP VIEW metrics",
        "TRUNCATE log",
        "CREATE TABLE mine (n int)",
        "CREATE TEMPORARY TABLE mine (n int)",
        "WITH gone AS (DELETE FROM receipt RETURNING 1) SELECT * FROM gone",
        "SELECT nextval('mine')",
        "COPY receipt TO '/tmp/obs-hub-receipts'",
        "DO $$ BEGIN DELETE FROM receipt; END $$",
    ],
)
def test_nothing_can_be_changed(refused: Query, hub: HubProcess, sql: str) -> None:
    before = state_of(hub)
    message = refused(sql)
    if "nextval" not in sql:
        assert "; obs-hub query only reads, and this would change the store; its owner may: psql '" in message
        assert "postgres/socket" in message.rpartition("psql ")[2]
    assert state_of(hub) == before


def test_a_transaction_cannot_be_made_writable(refused: Query) -> None:
    refused("SET TRANSACTION READ WRITE")


@pytest.mark.parametrize(
    "sql", ["SELECT 1; SELECT 2", "COMMIT; DELETE FROM receipt", "SELECT 1; SET TRANSACTION READ WRITE"]
)
def test_several_statements_at_once_are_refused(refused: Query, sql: str) -> None:
    assert refused(sql).endswith("; obs-hub query runs one statement, and these are 2: give one at a time")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT * FROM metric_points", 'relation "metric_points" does not exist'),
        ("SELECT 1 / 0", "division by zero"),
        ("SELECT vallue FROM metrics", 'column "vallue" does not exist'),
    ],
)
def test_mistakes_are_told_in_one_line(refused: Query, sql: str, message: str) -> None:
    said = refused(sql)
    assert said.startswith(message)
    assert "\n" not in said


def test_a_hint_of_the_server_is_passed_on(refused: Query) -> None:
    assert "Perhaps you meant to reference" in refused("SELECT vallue FROM metrics")


def test_a_failure_after_the_first_rows_is_told_too(on_hub: Command) -> None:
    done = on_hub("query --csv", "SELECT 1 / (500 - n) AS one FROM generate_series(1, 1000) n")
    assert done.returncode == 1
    assert done.stderr == "Error: division by zero\n"


@pytest.mark.parametrize("sql", ["", "  ", "/* nothing /* at */ all */", "\n-- nothing", ";", " ; ;\n"])
def test_a_statement_that_is_none_is_told_so(refused: Query, sql: str) -> None:
    assert refused(sql).startswith('there is no statement to run; give one, such as obs-hub query "SELECT')


@pytest.mark.parametrize(
    ("sql", "advice"),
    [
        ("SELECT * FROM metric_points", "did you mean metrics? The views to start with are metrics, metrics_1m,"),
        ("SELECT * FROM trace", "did you mean spans?"),
        ("SELECT * FROM evnts", "did you mean events?"),
        ("SELECT * FROM sampel", "did you mean sample?"),
        ("SELECT * FROM nothing_like_it", "does not exist; The views to start with are"),
        ("SELECT event_name FROM events", "did you mean name?"),
        ("SELECT zzz FROM spans", "`TABLE spans LIMIT 1` shows the columns of spans"),
        ("SELECT pg_read_file('/etc/passwd')", "obs-hub query runs as a user who may read telemetry, and nothing else"),
    ],
)
def test_what_is_not_there_is_answered_with_what_may_be_meant(refused: Query, sql: str, advice: str) -> None:
    said = refused(sql)
    assert advice in said
    assert "\n" not in said


def test_a_statement_that_returns_nothing_is_told_so(refused: Query) -> None:
    assert refused("SET work_mem = '8MB'") == "this statement returns no rows, and obs-hub query is for those that do"


def test_expanded_each_row_has_a_line_for_each_column(query: Query) -> None:
    shown = query("SELECT n, E'a\nb' AS text FROM generate_series(1, 2) n", "--expanded")
    assert shown.splitlines() == [
        "─ row 1 ┬─", "n    │ 1", "text │ a", "     │ b",
        "─ row 2 ┬─", "n    │ 2", "text │ a", "     │ b",
        "(2 rows)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "sql", ["RESET ROLE", "DO $$ BEGIN END $$", "SET timezone = 'UTC'", "COPY (SELECT 1) TO STDOUT"]
)
def test_a_statement_that_returns_no_rows_is_told_so(refused: Query, sql: str) -> None:
    told = "this statement returns no rows, and obs-hub query is for those that do"
    assert refused(sql) == told


def test_it_reads_as_the_reader_role(query: Query) -> None:
    assert query("SELECT current_user", "--csv") == "current_user\nobs_hub_reader\n"


def test_every_view_for_people_can_be_read(query: Query) -> None:
    views = ["metrics", "metrics_1m", "metrics_1h", "histograms", "summaries", "exemplars", "logs", "events", "spans"]
    counts = ", ".join(f"(SELECT count(*) FROM {view} WHERE time > now()) AS {view}" for view in views)
    assert json.loads(query(f"SELECT {counts}", "--json")) == [dict.fromkeys(views, 0)]


def test_a_store_is_named_by_its_dsn(hub: HubProcess) -> None:
    assert obs_hub("query", "--csv", "SELECT 1 AS n", "--dsn", hub.dsn).stdout == "n\n1\n"


def test_the_data_directory_is_found_in_the_environment(hub: HubProcess) -> None:
    assert obs_hub("query", "--csv", "SELECT 1 AS n", OBSHUB_DATA_DIR=str(hub.data_dir)).stdout == "n\n1\n"


def test_nothing_leads_back_to_a_user_who_may_write(refused: Query, query: Query, tmp_path: Path) -> None:
    """In a DO block the role can be reset; what is below it must not be a superuser."""
    written = tmp_path / "written"
    for statement in (
        "RESET ROLE",
        "SET LOCAL ROLE NONE",
        "SET SESSION AUTHORIZATION DEFAULT",
        "SET SESSION AUTHORIZATION obs_hub",
        "SET ROLE obs_hub",
    ):
        refused(f"DO $$ BEGIN {statement}; COPY (SELECT 1) TO PROGRAM 'touch {written}'; END $$")
        refused(f"DO $$ BEGIN {statement}; COPY receipt TO '{written}'; END $$")
    assert not written.exists()
    assert query("SELECT session_user, rolsuper FROM pg_roles WHERE rolname = session_user", "--csv").splitlines() == [
        "session_user,rolsuper",
        "obs_hub_query,False",
    ]


@pytest.mark.parametrize("sql", ["SELECT pg_advisory_lock(1)", "SELECT lo_create(0)", "SELECT output FROM run"])
def test_what_a_reader_may_not_a_query_may_not(refused: Query, sql: str) -> None:
    assert "permission denied" in refused(sql)
