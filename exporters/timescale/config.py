"""Settings of the Timescale exporter."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from gateway.pipeline.settings import Duration, ExporterSettings, Settings


def _check_dsn(dsn: SecretStr) -> SecretStr:
    """See that it can be read: libpq's own errors tell the part that they do not understand, such as a password."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    text = dsn.get_secret_value()
    try:
        parts = conninfo_to_dict(text)
    except psycopg.Error:
        parts = None
    cut_off = (
        "://" in text and parts and any("@" in str(parts.get(each, ""))[1:] for each in ("host", "port", "dbname"))
    )
    if parts is None or cut_off:
        raise ValueError(
            "expected a connection string of PostgreSQL, such as postgresql://user:password@host:5432/database or "
            "host=… password='…'; in the first form % @ : / ? # and spaces of a password are written %25 %40 %3A %2F "
            "%3F %23 %20"
        )
    return dsn


class Retention(Settings):
    """How long each kind of record is kept. ``null`` keeps it for ever."""

    metrics: Duration | None = timedelta(days=30)
    """Data points of every metric type, and their exemplars."""
    logs: Duration | None = timedelta(days=30)
    """Log records and events."""
    traces: Duration | None = timedelta(days=14)
    """Spans."""
    rollup_1m: Duration | None = timedelta(days=90)
    """The 1-minute rollup of number data points."""
    rollup_1h: Duration | None = timedelta(days=730)
    """The 1-hour rollup of number data points."""


class Columnstore(Settings):
    """TimescaleDB's columnstore. Ignored, and said so, where the server has none."""

    enabled: bool = True
    """Convert chunks to the columnstore once they are old enough."""
    after: Duration = timedelta(days=1)
    """How old a chunk must be."""
    direct_copy_points: int | None = Field(default=10, ge=1)
    """Commits with at least this many number data points a series, on average, are written straight into the
    columnstore: quicker, but it compresses badly what comes in small numbers. ``null``: never."""


class Accept(Settings):
    """Which timestamps are accepted; a record outside is rejected through OTLP ``partial_success``."""

    past: Duration | None = None
    """How far back. The default is the retention of the record's signal, or a year where that is unlimited."""
    future: Duration = timedelta(hours=1)
    """How far ahead of this machine's clock."""


class TimescaleConfig(ExporterSettings):
    """Writes all three signals to TimescaleDB or PostgreSQL."""

    dsn: Annotated[SecretStr, AfterValidator(_check_dsn)] | None = None
    """A PostgreSQL connection string. Left out: the embedded PostgreSQL in the data directory."""
    logs: Literal["auto", "all", "events"] = "auto"
    """``all``: every log record. ``events``: those with an event name. ``auto``: events where the logs pipeline also
    has a ``loki`` exporter, which keeps the others, and else all."""
    layout: Literal["auto", "timescale", "native"] = "auto"
    """``timescale``: hypertables. ``native``: declarative partitions. ``auto``: what the server offers.

    Decided once, when the schema is made.
    """
    chunk_interval: Duration = Field(default=timedelta(days=1), ge=timedelta(hours=1))
    """The time that one chunk or partition spans. A changed value applies to those made from then on."""
    retention: Retention = Retention()
    columnstore: Columnstore = Columnstore()
    rollups: bool = True
    """Keep the 1-minute and 1-hour rollups."""
    accept: Accept = Accept()
    receipt_window: Duration = Field(default=timedelta(hours=24), ge=timedelta(minutes=1))
    """How long a batch's digest is kept in the store: a batch sent again within it is recognized and written once."""
    connections: int = Field(default=1, ge=1, le=32)
    """How many commits may run at once, each on a connection of its own."""
    series_cache: int = Field(default=200_000, ge=1_000)
    """How many series are remembered so that a known one costs a dictionary look-up."""
    series_limit: int = Field(default=100_000, ge=1)
    """How many series one metric may have. Points with new attributes beyond go to its overflow series."""
    series_limit_total: int = Field(default=1_000_000, ge=1)
    """How many series there may be in all."""
    maintenance_interval: Duration = Field(default=timedelta(minutes=1), ge=timedelta(seconds=1))
    """How often partitions are made and dropped, rollups brought up to date and old receipts removed."""
    collect_interval: Duration = Field(default=timedelta(days=1), ge=timedelta(seconds=1))
    """How often series, resources and scopes that no record refers to any more are removed."""
