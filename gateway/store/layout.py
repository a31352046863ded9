"""The layouts of the store, and which of them a server offers.

``timescale``: facts are hypertables. ``native``: facts are declarative partitions that the gateway makes ahead of time
and drops. The layout is decided once, when the schema is made, and recorded in ``store_setting``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import psycopg

Connection = psycopg.Connection[Any]
LayoutName = Literal["timescale", "native"]

FACTS = ("sample", "frame", "histogram_sample", "exp_histogram_sample", "summary_sample", "exemplar", "log", "span")
METRIC_FACTS = FACTS[:6]
ROLLUPS = ("sample_1m", "sample_1h", "frame_1m", "frame_1h")
EARLIER = "_earlier"
"""Ends the names of rollups that an earlier version made, where they reach back further than the points."""
CONTINUOUS = "_continuous"
"""Ends the names of rollups that were continuous aggregates, in stores of an earlier version that used them."""


class LayoutError(Exception):
    """The layout asked for is not to be had on this server, or not in this store."""


@dataclass(slots=True, frozen=True)
class Layout:
    """How a store is laid out.

    ``community`` is true where TimescaleDB's Community edition is there, with columnstore and retention policies; its
    Apache edition has neither. ``gateway_rollups`` is false where an earlier version made the rollups continuous
    aggregates, which only migrations ask for: the gateway fills them everywhere now.
    """

    name: LayoutName
    server: str
    community: bool
    gateway_rollups: bool

    @property
    def native(self) -> bool:
        """Whether the gateway makes and drops partitions itself."""
        return self.name == "native"

    def describe(self) -> str:
        """Say in one sentence what the store is, for the start-up log."""
        if self.native:
            return f"layout native on {self.server}: declarative partitions, rollups computed by the gateway"
        if self.community:
            return (
                f"layout timescale on {self.server}: hypertables, columnstore, retention policies, "
                "rollups computed by the gateway"
            )
        return (
            f"layout timescale on {self.server} (Apache edition): hypertables without columnstore, "
            "rollups and retention done by the gateway"
        )


def choose(connection: Connection, wanted: str) -> Layout:
    """Decide the layout of a new store; creates the extension where it is to be used.

    Raises `LayoutError` when ``timescale`` is wanted and the server has no TimescaleDB that could be used.
    """
    if wanted == "native":
        return _layout(connection, "native", None)
    obstacle = _obstacle_to_timescale(connection)
    if obstacle is None:
        return _layout(connection, "timescale", None)
    if wanted == "timescale":
        raise LayoutError(f"layout timescale is not possible: {obstacle}")
    return _layout(connection, "native", None)


def current(connection: Connection) -> Layout | None:
    """Return the layout of an existing store, or None where there is none yet."""
    if _scalar(connection, "SELECT to_regclass('store_setting')") is None:
        return None
    name = read_setting(connection, "layout")
    return None if name is None else _layout(connection, name, read_setting(connection, "rollups"))


def _layout(connection: Connection, name: LayoutName, rollups: str | None) -> Layout:
    """Return the layout; ``rollups`` is who keeps them in this store, None where that is to be decided."""
    server = f"PostgreSQL {_scalar(connection, 'SHOW server_version')}"
    if name == "native":
        return Layout(name, server, community=False, gateway_rollups=True)
    version = _scalar(connection, "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    if version is None:
        raise LayoutError(
            "this store has layout timescale, but the extension timescaledb is missing from the database: "
            "restore it with CREATE EXTENSION timescaledb"
        )
    licence = _scalar(connection, "SELECT current_setting('timescaledb.license', true)")
    community = licence == "timescale"
    gateway_rollups = not community if rollups is None else rollups == "gateway"
    return Layout(name, f"TimescaleDB {version}, {server}", community, gateway_rollups)


def _obstacle_to_timescale(connection: Connection) -> str | None:
    if _scalar(connection, "SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'"):
        return None
    if not _scalar(connection, "SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'"):
        return "the server does not have the extension timescaledb; install it, or set layout: native"
    # The loader defines this setting. Without it CREATE EXTENSION would end the connection.
    if _scalar(connection, "SELECT current_setting('timescaledb.disable_load', true)") is None:
        return "the server does not load timescaledb; add it to shared_preload_libraries and restart PostgreSQL"
    try:
        with connection.transaction():
            connection.execute("CREATE EXTENSION timescaledb")
    except psycopg.Error as error:
        return f"CREATE EXTENSION timescaledb failed ({error.diag.message_primary}); ask a superuser to run it"
    return None


def _scalar(connection: Connection, query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    return None if row is None else row[0]


def read_setting(connection: Connection, key: str) -> Any:
    """Return a fact recorded in ``store_setting``, or None."""
    row = connection.execute("SELECT value FROM store_setting WHERE key = %s", (key,)).fetchone()
    return None if row is None else row[0]


def write_setting(connection: Connection, key: str, value: str) -> None:
    """Record a fact, given as JSON text, in ``store_setting``."""
    connection.execute(
        "INSERT INTO store_setting (key, value) VALUES (%s, %s::jsonb)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, value),
    )
