"""A store made, written, kept and read: what must hold whatever a session is like and whatever is in between."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, TypedDict

import psycopg
from psycopg import sql

from tests.support.databases import Database
from tests.support.stores import asked, maintain, running_exporter, store
from tests.support.telemetry import DAY, SECOND, gauge, logs, now, spans

HOUR = 3600 * SECOND
NAME, BODY = "日本.温度", "café \N{SNOWMAN}"


def set_for(database: Database, name: str, value: str, role: str | None = None) -> None:
    """Set something for all sessions of a database, or those of one role in it."""
    whose = sql.SQL("DATABASE {}").format(sql.Identifier(database.name))
    if role is not None:
        whose = sql.SQL("ROLE {} IN {}").format(sql.Identifier(role), whose)
    values = sql.SQL(", ").join(map(sql.Literal, value.split(", ")))
    with psycopg.connect(database.server.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER {} SET {} = {}").format(whose, sql.Identifier(name), values))


async def assert_works(database: Database) -> dict[str, list[Any]]:
    """Make a store, write all signals over hours, maintain it and read it; return what was read."""
    first = now() // HOUR * HOUR - 3 * HOUR
    points = {first + minute * 60 * SECOND + 7: 0.1 * minute for minute in range(0, 150, 5)}
    batches = [
        gauge(points, name=NAME, attributes={"room": BODY}),
        gauge([1.0], name="old", at=now() - 20 * DAY),
        logs(BODY),
        logs(BODY, event="order.placed"),
        spans(BODY),
    ]
    async with running_exporter(database) as exporter:
        assert await store(exporter, *batches) == [True] * len(batches)
        assert await store(exporter, *batches) == [False] * len(batches)
        for _ in range(2):  # the second finds the partitions of the first
            await asyncio.to_thread(maintain, database)
        await store(exporter, gauge({first + 1: 9.0}, name=NAME))  # another series, of hours that are rolled up
        await asyncio.to_thread(maintain, database, retention={"metrics": "10d"}, accept={"past": "10d"})
    expected = read(database)
    hours = [datetime.fromtimestamp((first + n * HOUR) / SECOND, UTC) for n in range(3)]
    assert [(row["time"], row["count"]) for row in expected["hours"]] == list(zip(hours, (12, 12, 6), strict=True))
    assert [row["value"] for row in expected["points"]] == list(points.values())
    assert {row["room"] for row in expected["points"]} == {BODY}
    assert [row["body"] for row in expected["logs"]] == [BODY, BODY]
    assert [row["name"] for row in expected["events"]] == ["order.placed"]
    assert [(row["name"], row["duration_ms"]) for row in expected["spans"]] == [(BODY, 1.5)]
    assert expected["old"] == [{"count": 0}] or not database.native
    return expected


class _Hour(TypedDict):
    time: datetime
    count: int
    sum: float
    last: float


def read(database: Database) -> dict[str, list[Any]]:
    """Read through the views, as the commands do."""
    named = {"name": NAME}
    with asked(database) as reader:
        return {
            "points": reader.rows(
                "SELECT time, value, attributes ->> 'room' AS room FROM metrics"
                ' WHERE name = %(name)s AND attributes @> \'{"room": "café ☃"}\' ORDER BY time',
                named,
            ),
            "hours": reader.rows(
                "SELECT time, count, sum, last FROM metrics_1h WHERE name = %(name)s AND attributes ? 'room'"
                " ORDER BY time",
                named,
                _Hour,
            ),
            "old": reader.rows("SELECT count(*) FROM metrics WHERE name = 'old'"),
            "logs": reader.rows("SELECT time, body FROM logs ORDER BY time"),
            "events": reader.rows("SELECT time, name FROM events"),
            "spans": reader.rows("SELECT time, name, duration_ms, trace_id FROM spans"),
        }
