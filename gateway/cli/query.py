"""``obs-hub query``: SQL on the store, read-only."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import re
import shlex
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, cast

import click
import psycopg
import psycopg.sql
from psycopg.pq import TransactionStatus

from gateway.cli.database_errors import error_text
from gateway.cli.drawing.screen import Screen, fitted, width_of
from gateway.cli.options import config_option, data_dir_option, dsn_option, find_store, reading_dsn
from gateway.cli.statements import statements, writes
from gateway.query.reading.connection import connect_to_read
from gateway.store import dsn_without_secrets
from gateway.suggestions import near
from gateway.terminal import safe, safe_text, shown_json, shown_row

_MOST_ROWS = 1_000
_OTHER_NAMES = {"trace": "spans", "traces": "spans", "event": "events"}
_VIEWS = ("metrics", "metrics_1m", "metrics_1h", "histograms", "logs", "events", "spans")
_EXAMPLE = 'obs-hub query "SELECT time, severity, body FROM logs ORDER BY time DESC LIMIT 10"'


@click.command()
@click.argument("sql")
@click.option("--csv", "output", flag_value="csv", help="Print a header line and rows as CSV, as many as there are.")
@click.option("--json", "output", flag_value="json", help="Print an array of objects.")
@click.option(
    "-x", "--expanded", "output", flag_value="expanded",
    help="Print a line for each column. So are rows on a terminal that they are too wide for.",
)  # fmt: skip
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
    if not statements(sql):
        raise click.ClickException(f"there is no statement to run; give one, such as {_EXAMPLE}")
    try:
        found = reading_dsn(dsn, config_path, data_dir, any_statement=True)
        with connect_to_read(found, autocommit=False) as connection:
            try:
                with reading(connection, sql.encode()) as (columns, rows):
                    _PRINTERS[output or "table"](columns, rows)
            except psycopg.Error as error:
                if connection.info.transaction_status is TransactionStatus.ACTIVE:
                    connection.close()  # what a COPY returns would have to be read to its end
                if connection.closed:
                    raise
                connection.rollback()
                advice = _advice(error, sql, connection)
                if advice is None:
                    place = find_store(dsn, config_path, data_dir)
                    owner = f": psql {shlex.quote(dsn_without_secrets(place.dsn))}" if place is not None else ""
                    advice = f"obs-hub query only reads, and this would change the store; its owner may{owner}"
                raise click.ClickException("; ".join(filter(None, (_said(error), advice)))) from error
    except BrokenPipeError:  # the reader has seen enough
        sys.stderr.close()
    except psycopg.Error as error:
        raise click.ClickException(_said(error)) from error


@contextlib.contextmanager
def reading(
    connection: psycopg.Connection[Any], statement: bytes | psycopg.sql.Composed
) -> Iterator[tuple[list[str], Iterator[Sequence[Any]]]]:
    """Run one statement by a connection that may only read (`connect_to_read`), in a transaction.

    Yields the column names and the rows, which arrive as they are asked for.
    """
    connection.execute("SET TRANSACTION READ ONLY")  # as it is; through a pooler, cursors need one that has begun
    cursor = connection.cursor()
    # Until the stream is closed, the connection can do nothing else: not even end its transaction.
    with contextlib.closing(cast("Generator[Sequence[Any]]", cursor.stream(statement))) as rows:
        first = list(itertools.islice(rows, 1))
        columns = [column.name for column in cursor.description or ()] or _columns(connection, statement)
        yield columns, itertools.chain(first, rows)


def _columns(connection: psycopg.Connection[Any], statement: bytes | psycopg.sql.Composed) -> list[str]:
    """Return the column names of a statement: a result without rows is streamed without them."""
    server = connection.pgconn
    server.prepare(b"", statement if isinstance(statement, bytes) else statement.as_bytes(connection))
    described = server.describe_prepared(b"")
    return [(described.fname(column) or b"").decode() for column in range(described.nfields)]


def _print_table(columns: list[str], rows: Iterator[Sequence[Any]], expanded: bool = False) -> None:
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    screen = Screen()
    read = list(itertools.islice(rows, _MOST_ROWS + 1))
    more = len(read) > _MOST_ROWS
    cells = [[Text(safe_text(_short(value)), justify=_side(value)) for value in row] for row in read[:_MOST_ROWS]]
    table = Table(header_style="bold")
    for column in columns:
        table.add_column(safe(column), overflow="fold")
    for row in cells:
        table.add_row(*row)
    # A pipe has no width to fit into.
    console = Console(width=None if sys.stdout.isatty() else 10_000)
    needed = Measurement.get(console, console.options.update(width=10_000), table).maximum
    if expanded or (cells and needed > console.width):
        _print_expanded(columns, cells, screen)
    else:
        console.print(table)
    count = f"{'the first ' if more else ''}{len(cells)} row{'' if len(cells) == 1 else 's'}"
    console.print(f"({count}{'; --csv and --json print all' if more else ''})", style="dim")


def _print_expanded(columns: list[str], rows: Sequence[Sequence[Any]], screen: Screen) -> None:
    """Print a line for each column of each row, as long as it takes; lines of a text below one another."""
    names = [safe(column) for column in columns]
    width = max(map(width_of, names))
    for number, row in enumerate(rows, 1):
        screen.line(screen.paint(f"─ row {number} ".ljust(width + 1, "─") + "┬─", dim=True))
        for name, cell in zip(names, row, strict=True):
            first, *rest = cell.plain.split("\n")
            screen.line(f"{screen.paint(fitted(name, width), bold=True)} │ {first}".rstrip())
            for line in rest:
                screen.line(f"{'':{width}} │ {line}".rstrip())
    screen.flush()


def _print_as_expanded(columns: list[str], rows: Iterator[Sequence[Any]]) -> None:
    _print_table(columns, rows, expanded=True)


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


_PRINTERS: dict[str, Callable[[list[str], Iterator[Sequence[Any]]], None]] = {
    "table": _print_table,
    "expanded": _print_as_expanded,
    "csv": _print_csv,
    "json": _print_json,
}


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


def _said(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
        return "this statement returns no rows, and obs-hub query is for those that do"
    return error_text(error) + (f" ({safe(error.diag.message_hint)})" if error.diag.message_hint else "")


def _advice(error: psycopg.Error, sql: str, connection: psycopg.Connection[Any]) -> str | None:
    """Return what to do about an error, as far as there is something; None where only the store's owner may."""
    match error:
        case psycopg.errors.SyntaxError() if (count := len(statements(sql))) > 1:
            return f"obs-hub query runs one statement, and these are {count}: give one at a time"
        case psycopg.errors.ReadOnlySqlTransaction():
            return None
        case psycopg.errors.InsufficientPrivilege():
            return None if writes(sql) else "obs-hub query runs as a user who may read telemetry, and nothing else"
        case psycopg.errors.UndefinedTable():
            return _known_tables(error, connection)
        case psycopg.errors.UndefinedColumn() if not error.diag.message_hint:
            return _known_columns(error, sql, connection)
        case _:
            return ""


def _known_tables(error: psycopg.Error, connection: psycopg.Connection[Any]) -> str:
    known = _readable(connection)
    word = _quoted(error)
    meant = [_OTHER_NAMES[word]] if word in _OTHER_NAMES else near(word, _VIEWS) or near(word, known)
    views = [view for view in _VIEWS if view in known]
    if not views:
        return "this database has no store; a gateway makes it when it starts, or `obs-hub db migrate` does"
    question = f"did you mean {meant[0]}? " if meant else ""
    return f"{question}The views to start with are {', '.join(views)}"


def _known_columns(error: psycopg.Error, sql: str, connection: psycopg.Connection[Any]) -> str:
    named = set(itertools.chain(*statements(sql))) & set(_readable(connection))
    rows = connection.execute(
        "SELECT DISTINCT attname FROM pg_attribute"
        " WHERE attrelid = ANY(%s::regclass[]) AND attnum > 0 AND NOT attisdropped",
        ([psycopg.sql.Identifier(name).as_string(connection) for name in named],),
    )
    word, columns = _quoted(error).rpartition(".")[2], [row[0] for row in rows]
    if meant := [column for column in columns if word.endswith(f"_{column}")] or near(word, columns):
        return f"did you mean {meant[0]}?"
    return "".join(f"`TABLE {name} LIMIT 1` shows the columns of {name}" for name in sorted(named)[:1])


def _readable(connection: psycopg.Connection[Any]) -> list[str]:
    """Return the tables and views that can be read without naming their schema, the store's own."""
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'v', 'm', 'p') AND pg_table_is_visible(oid)"
        " AND relnamespace <> 'pg_catalog'::regnamespace AND has_table_privilege(oid, 'SELECT')"
        " AND NOT relispartition ORDER BY 1"
    )
    return [row[0] for row in rows]


def _quoted(error: psycopg.Error) -> str:
    """Return the name that an error is about, which PostgreSQL puts in quotes."""
    found = re.search('"([^"]*)"', error.diag.message_primary or "")
    return found[1] if found else ""
