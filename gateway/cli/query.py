"""``obs-hub query``: SQL on the store, read-only."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import sys
from collections.abc import Generator, Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, cast

import click
import psycopg
import psycopg.sql

from exporters.timescale.schema import READER_ROLE
from gateway.cli.options import config_option, data_dir_option, dsn_option, reading_dsn
from gateway.explore.store import read_only
from gateway.pipeline.postgres import connect
from gateway.terminal import safe, safe_text, shown_json, shown_row

_MOST_ROWS = 1_000


@click.command()
@click.argument("sql")
@click.option("--csv", "output", flag_value="csv", help="Print a header line and rows as CSV, as many as there are.")
@click.option("--json", "output", flag_value="json", help="Print an array of objects.")
@config_option
@data_dir_option
@dsn_option
def query(sql: str, output: str | None, config_path: Path | None, data_dir: Path | None, dsn: str | None) -> None:
    """Run one SQL statement on the store and print what it returns.

    It runs as a user who may only read. The views to start with are metrics, metrics_1m, metrics_1h, histograms, logs,
    events and spans.

    \b
    obs-hub query "SELECT time, value FROM metrics WHERE name = 'system.memory.utilization' LIMIT 5"
    obs-hub query --csv "SELECT * FROM spans WHERE duration_ms > 500" > slow.csv
    """
    try:
        with (
            connect(reading_dsn(dsn, config_path, data_dir, any_statement=True), reading=True) as connection,
            reading(connection, sql.encode()) as (columns, rows),
        ):
            _PRINTERS[output or "table"](columns, rows)
    except BrokenPipeError:  # the reader has seen enough
        sys.stderr.close()
    except psycopg.Error as error:
        raise click.ClickException(_explain(error)) from error


_RETURNS_NOTHING = "that returns no rows; obs-hub query runs one statement that does, such as SELECT, SHOW or EXPLAIN"


@contextlib.contextmanager
def reading(
    connection: psycopg.Connection[Any], statement: bytes | psycopg.sql.Composed
) -> Iterator[tuple[list[str], Iterator[Sequence[Any]]]]:
    """Run one statement in a read-only transaction, as the reader role where it exists.

    Yields the column names and the rows, which arrive as they are asked for.
    """
    read_only(connection, READER_ROLE)
    cursor = connection.cursor()
    # Until the stream is closed, the connection can do nothing else: not even end its transaction.
    with contextlib.closing(cast("Generator[Sequence[Any]]", cursor.stream(statement))) as rows, _rows_only(connection):
        first = list(itertools.islice(rows, 1))
        columns = [column.name for column in cursor.description or ()] or _columns(connection, statement)
        yield columns, itertools.chain(first, rows)


@contextlib.contextmanager
def _rows_only(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Close the connection when a statement returns no rows: what a COPY returns would have to be read to its end."""
    try:
        yield
    except psycopg.ProgrammingError as error:
        if error.sqlstate is None:
            connection.close()
        raise


def _columns(connection: psycopg.Connection[Any], statement: bytes | psycopg.sql.Composed) -> list[str]:
    """Return the column names of a statement: a result without rows is streamed without them."""
    server = connection.pgconn
    server.prepare(b"", statement if isinstance(statement, bytes) else statement.as_bytes(connection))
    described = server.describe_prepared(b"")
    return [(described.fname(column) or b"").decode() for column in range(described.nfields)]


def _print_table(columns: list[str], rows: Iterator[Sequence[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold")
    for column in columns:
        table.add_column(safe(column), overflow="fold")
    shown, more = 0, ""
    for row in rows:
        if shown == _MOST_ROWS:
            more = "the first "
            break
        table.add_row(*(Text(safe_text(_short(value)), justify=_side(value)) for value in row))
        shown += 1
    # A pipe has no width to fit into.
    console = Console(width=None if sys.stdout.isatty() else 10_000)
    console.print(table)
    hint = "; --csv and --json print all" if more else ""
    console.print(f"({more}{shown} row{'' if shown == 1 else 's'}{hint})", style="dim")


def _print_csv(columns: list[str], rows: Iterator[Sequence[Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(shown_row(columns))
    writer.writerows(shown_row(map(_cell, row)) for row in rows)


def _print_json(columns: list[str], rows: Iterator[Sequence[Any]]) -> None:
    separator = "["
    for row in rows:
        record = dict(zip(columns, map(_json_value, row), strict=True))
        click.echo(separator + shown_json(json.dumps(record, ensure_ascii=False, default=str)), nl=False)
        separator = ",\n "
    click.echo("[]" if separator == "[" else "]")


_PRINTERS = {"table": _print_table, "csv": _print_csv, "json": _print_json}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return str(value)


def _short(value: Any) -> str:
    """Return a value as a person reads it in a table: instants to the millisecond."""
    return value.isoformat(sep=" ", timespec="milliseconds") if isinstance(value, datetime) else _cell(value)


def _json_value(value: Any) -> Any:
    match value:
        case float() if value - value != 0:  # NaN and infinities, which JSON has not
            return str(value)
        case date():
            return value.isoformat()
        case list():
            return [_json_value(item) for item in value]
        case _:
            return value


def _side(value: Any) -> Any:
    return "right" if isinstance(value, int | float) and not isinstance(value, bool) else "left"


def _explain(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
        return _RETURNS_NOTHING  # psycopg's own error, for it streams rows
    message = safe(error.diag.message_primary or str(error).strip())
    hint = f" ({safe(error.diag.message_hint)})" if error.diag.message_hint else ""
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction | psycopg.errors.InsufficientPrivilege):
        hint = " (obs-hub query reads only; use psql to change something)"
    return message + hint
