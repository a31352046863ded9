"""How the assembly makes a Timescale exporter."""

from __future__ import annotations

from exporters.timescale.config import TimescaleConfig
from exporters.timescale.exporter import TimescaleExporter


def create(name: str, config: TimescaleConfig, embedded_dsn: str | None) -> TimescaleExporter:
    """Make the exporter. ``embedded_dsn`` is the embedded PostgreSQL's, used where the settings name no server."""
    dsn = config.connection_string or embedded_dsn
    assert dsn is not None, "the assembly starts the embedded PostgreSQL when an exporter needs it"
    return TimescaleExporter(name, config, dsn)
