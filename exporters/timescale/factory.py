"""What a Timescale exporter is, and how the assembly makes one."""

from __future__ import annotations

from exporters.timescale.config import TimescaleConfig
from gateway.component import Exporter
from gateway.component.declaration import Context, ExporterComponent


def create(name: str, config: TimescaleConfig, context: Context) -> Exporter:
    """Make the exporter. Where its settings name no server, it stores into the embedded PostgreSQL."""
    from exporters.timescale.exporter import TimescaleExporter

    dsn = config.connection_string or context.embedded_dsn
    assert dsn is not None, "the assembly starts the embedded PostgreSQL when an exporter needs it"
    return TimescaleExporter(name, config, dsn)


COMPONENT = ExporterComponent(settings=TimescaleConfig, create=create)
