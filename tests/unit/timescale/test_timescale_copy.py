"""The binary COPY format: PostgreSQL reads what is encoded, as what was meant."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporters.timescale import copy
from exporters.timescale.copy import NO_SPAN_ID, NULL, Rows, Texts
from gateway.store import COPY_HEADER as HEADER
from gateway.store import COPY_TRAILER as TRAILER
from tests.support.databases import Server, fresh_store
from tests.support.otlp_strategies import any_times, doubles, int32, int64, texts

_COLUMNS = {
    "s": "smallint",
    "i": "integer",
    "b": "bigint",
    "bn": "bigint",
    "d": "double precision",
    "t": "text",
    "j": "jsonb",
    "h": "text",
    "at": "timestamptz",
    "ns": "smallint",
    "ba": "bigint[]",
    "da": "double precision[]",
}


@pytest.fixture(scope="module")
def connection(embedded_server: Server) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(embedded_server.dsn, autocommit=True) as connection:
        columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
        connection.execute(f"CREATE TEMP TABLE copied ({columns})".encode())
        yield connection


def copied(connection: psycopg.Connection[Any], fields: list[bytes]) -> tuple[Any, ...]:
    """COPY one row, and read it back."""
    connection.execute("TRUNCATE copied")
    with connection.cursor().copy("COPY copied FROM STDIN (FORMAT binary)") as stream:
        stream.write(HEADER + struct.pack(">h", len(fields)) + b"".join(fields) + TRAILER)
    row: tuple[Any, ...] | None = connection.cursor(binary=True).execute("SELECT * FROM copied").fetchone()
    assert row is not None
    return row


@settings(suppress_health_check=list(HealthCheck))
@given(
    small=st.integers(-(2**15), 2**15 - 1),
    number=int32,
    big=int64,
    double=doubles,
    text=texts,
    content=st.binary(max_size=20),
    at=any_times,
    bigs=st.lists(int64, max_size=5),
    doubles_=st.lists(doubles, max_size=5),
)
def test_postgresql_reads_what_was_encoded(
    connection: psycopg.Connection[Any],
    small: int,
    number: int,
    big: int,
    double: float,
    text: str,
    content: bytes,
    at: int,
    bigs: list[int],
    doubles_: list[float],
) -> None:
    time, ns = copy.time_and_ns(at)
    row = copied(
        connection,
        [
            copy.int2(small),
            copy.int4(number),
            copy.int8(big),
            copy.int8_or_null(big),
            copy.float8(double),
            copy.text(text),
            copy.jsonb(b'{"a": [1, 2.0]}'),
            copy.id_or_null(content, bytes(len(content))),
            time,
            ns,
            copy.int8_array(bigs),
            copy.float8_array(doubles_),
        ],
    )
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    expected = (
        small,
        number,
        big,
        big or None,
        struct.pack(">d", double),
        text,
        {"a": [1, 2.0]},
        content.hex() if any(content) else None,
        epoch + timedelta(microseconds=at // 1000) if at else None,
        at % 1000 if at else None,
        bigs,
        [struct.pack(">d", value) for value in doubles_],
    )
    # As bytes, because NaN is not equal to itself and -0.0 is equal to 0.0.
    doubles_read = [struct.pack(">d", value) for value in row[11]]
    assert (*row[:4], struct.pack(">d", row[4]), *row[5:11], doubles_read) == expected


def test_null_stands_for_what_was_not_given(connection: psycopg.Connection[Any]) -> None:
    assert copied(connection, [NULL] * len(_COLUMNS)) == (None,) * len(_COLUMNS)
    assert copy.int8_or_null(0) == NULL
    for none in (b"", bytes(8), b"\1" * 7):
        assert copy.id_or_null(none, NO_SPAN_ID) == NULL
    assert copy.time_and_ns(0) == (NULL, NULL)


def test_nul_characters_are_replaced() -> None:
    assert copy.text("a\0b") == copy.text("a\ufffdb")


@pytest.mark.parametrize("value", [2**63, 2**64 - 1, -(2**63) - 1])
def test_integers_beyond_bigint_are_errors(value: int) -> None:
    with pytest.raises(struct.error):
        copy.int8(value)
    with pytest.raises(struct.error):
        copy.int8_array([0, value])


def test_the_epoch_is_postgresqls() -> None:
    time, ns = copy.time_and_ns(946_684_800 * 10**9 + 7)
    assert time == struct.pack(">iq", 8, 0)
    assert ns == struct.pack(">ih", 2, 7)


def test_the_encoded_columns_are_those_of_the_tables(embedded_server: Server) -> None:
    with fresh_store(embedded_server) as database:
        for table, columns in copy.COLUMNS.items():
            stored = database.run(
                "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0", [table]
            )
            assert sorted(columns) == sorted(name for (name,) in stored)


def test_repeated_texts_are_encoded_once_and_the_memory_of_them_is_bounded() -> None:
    remembered = Texts(limit=10)
    assert remembered[""] == NULL
    for n in range(1000):
        assert remembered[f"text {n}"] == copy.text(f"text {n}")
        assert len(remembered) <= 10
    assert remembered["text 999"] is remembered["text 999"]
    assert remembered["x" * 1000] == copy.text("x" * 1000)
    assert "x" * 1000 not in remembered


def test_rows_know_the_intervals_they_fall_into() -> None:
    rows = Rows(interval=60)
    rows.add("log", b"a", 2, [1, 2])
    rows.add("log", b"b", 1, [2])
    rows.add("span", b"c", 1, [9])
    assert rows.count == 4
    assert rows.intervals == {"log": {1, 2}, "span": {9}}
    assert rows.chunks == {"log": [b"a", b"b"], "span": [b"c"]}


def test_nan_is_encoded() -> None:
    (value,) = struct.unpack(">d", copy.float8(math.nan)[4:])
    assert math.isnan(value)
