"""What a Loki exporter is, and how the assembly makes one."""

from __future__ import annotations

from exporters.loki.config import LokiConfig
from gateway.component import Exporter, Signal
from gateway.component.declaration import Context, ExporterComponent


def create(name: str, config: LokiConfig, context: Context) -> Exporter:
    """Make the exporter."""
    from exporters.loki.exporter import LokiExporter

    return LokiExporter(name, config)


COMPONENT = ExporterComponent(settings=LokiConfig, create=create, signals=frozenset({Signal.LOGS}))
