"""Settings of a store: where it is, how it is laid out, and how long it keeps what."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from gateway.base.settings import Contradiction, Duration, ExporterSettings, Settings, format_duration

_A_YEAR = timedelta(days=366)


def _check_dsn(dsn: SecretStr) -> SecretStr:
    from gateway.store.postgres.dsn import check_dsn

    check_dsn(dsn.get_secret_value())
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


class StoreSettings(ExporterSettings):
    """What an exporter has that is a store: whatever it is given is kept in PostgreSQL, and read from there."""

    dsn: Annotated[SecretStr, AfterValidator(_check_dsn)] | None = None
    """A PostgreSQL connection string. Left out: the embedded PostgreSQL in the data directory."""
    reader_dsn: Annotated[SecretStr, AfterValidator(_check_dsn)] | None = None
    """That of a user who may only read, as ``obs-hub db reader`` makes one: ``obs-hub query`` and whatever else only
    reads logs in by it. Left out: as a user that is made for it, where the user of ``dsn`` may make users."""
    embedded_port: int | None = Field(default=None, ge=1, le=65535)
    """A port of 127.0.0.1 on which the embedded PostgreSQL lets users in whom ``obs-hub db reader`` made, by their
    password (SCRAM), such as Grafana. ``null``: none; it is reached by its socket alone."""
    pooler: Literal["auto", "transaction", "none"] = "auto"
    """Whether ``dsn`` leads through a pooler such as PgBouncer. ``auto``: it is found out. ``transaction``: through
    one, in transaction or session mode. ``none``: through none, or one in session mode; a round trip a commit is
    saved."""
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
    attribute_index: bool = False
    """Index the attributes of logs and spans, by which ``attributes @> '{"key": "value"}'`` is found at once. Storing
    them then costs PostgreSQL twice as much, and a tenth more disk. Applies to chunks and partitions that are made from
    then on, or hold nothing yet; ``false`` drops the index."""
    accept: Accept = Accept()
    receipt_window: Duration = Field(default=timedelta(hours=24), ge=timedelta(minutes=1))
    """How long a batch's digest is kept in the store: a batch sent again within it is recognized and written once."""
    maintenance_interval: Duration = Field(default=timedelta(minutes=1), ge=timedelta(seconds=1))
    """How often partitions are made and dropped, rollups brought up to date and old receipts removed."""
    collect_interval: Duration = Field(default=timedelta(days=1), ge=timedelta(seconds=1))
    """How often series, resources and scopes that no record refers to any more are removed."""

    def contradictions(self) -> Iterator[Contradiction]:
        """Return what has no effect, what would be accepted only to be dropped at once, and what would undo rollups."""
        if self.embedded_port is not None and self.dsn is not None:
            yield Contradiction(
                ("embedded_port",),
                "it is the embedded PostgreSQL's, and dsn names another server; leave one of them out",
            )
        past, kept = self.accept.past, self.retention
        for name in ("metrics", "logs", "traces"):
            its = getattr(kept, name)
            if past is not None and its is not None and past > its:
                yield Contradiction(
                    ("accept", "past"),
                    f"{format_duration(past)} is longer than retention.{name} ({format_duration(its)}): what is older "
                    "would be accepted and dropped at once; make the one shorter, or the other longer",
                    refused=name == "metrics",
                )
        minutes, reach = kept.rollup_1m, past or kept.metrics
        if not self.rollups or minutes is None or reach is None or reach <= minutes:
            return
        if past is not None or "rollup_1m" in kept.model_fields_set:
            yield Contradiction(
                ("retention", "rollup_1m"),
                f"{format_duration(minutes)} is shorter than data points are accepted ({format_duration(reach)}, by "
                "accept.past or retention.metrics): the rollup by hour is made of the one by minute; keep it that long",
            )

    def accepted_past(self, kept: timedelta | None) -> timedelta:
        """Return how far back the timestamps of a signal may be whose records are ``kept`` so long; None: for ever."""
        return self.accept.past or kept or _A_YEAR

    @property
    def connection_string(self) -> str | None:
        """How to connect, with what these settings say of it; None: the embedded PostgreSQL."""
        from gateway.store.postgres import with_pooler

        return None if self.dsn is None else with_pooler(self.dsn.get_secret_value(), self.pooler)

    @property
    def reader_connection_string(self) -> str | None:
        """How to connect to read, where these settings say so."""
        from gateway.store.postgres import with_pooler

        return None if self.reader_dsn is None else with_pooler(self.reader_dsn.get_secret_value(), self.pooler)
