"""A store that does not answer: every command says so in one line, with what to do."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from gateway.cli.database_errors import error_text
from tests.integration.cli.processes import free_port, obs_hub
from tests.support.databases import Database

COMMANDS = [
    ("query", "SELECT 1"),
    ("logs",),
    ("metrics",),
    ("traces",),
    ("db", "status"),
    ("db", "migrate"),
    ("db", "reader", "grafana"),
    ("db", "backup"),
]


def told_by(*words: object) -> str:
    result = obs_hub(*words)
    assert result.returncode == 1
    return result.stderr


def check(message: str, advice: str) -> None:
    (line,) = message.splitlines()
    assert line.startswith("Error: ")
    assert "connection to server " in line
    assert advice in line
    assert not any(part in line for part in ("\t", "\\t", "\\n", "\\x", "Is the server"))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_server_that_is_away_is_told(command: tuple[str, ...]) -> None:
    check(told_by(*command, "--dsn", f"host=127.0.0.1 port={free_port()} user=nobody"), "see that the server runs")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_hub_that_has_just_stopped_is_told(command: tuple[str, ...], tmp_path: Path) -> None:
    dsn = f"host={tmp_path} user=postgres dbname=obs_hub"
    check(told_by(*command, "--dsn", dsn), "start it with `obs-hub up`")


def test_what_the_server_answers_is_told_without_advice_on_connections(database: Database) -> None:
    with pytest.raises(psycopg.Error) as refused, psycopg.connect(database.dsn) as connection:
        connection.execute("SELECT 1 / 0")
    assert error_text(refused.value) == "division by zero"
    options = "-c statement_timeout=1"
    with pytest.raises(psycopg.Error) as late, psycopg.connect(database.dsn, options=options) as connection:
        connection.execute("SELECT pg_sleep(10)")
    assert error_text(late.value) == "canceling statement due to statement timeout"


def test_a_connection_that_was_cut_off_is_told(database: Database) -> None:
    with psycopg.connect(database.dsn) as connection, pytest.raises(psycopg.Error) as cut:
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert error_text(cut.value).startswith("terminating connection due to administrator command; ")
