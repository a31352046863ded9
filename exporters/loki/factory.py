"""How the assembly makes a Loki exporter."""

from __future__ import annotations

from exporters.loki.config import LokiConfig
from exporters.loki.exporter import LokiExporter


def create(name: str, config: LokiConfig, _embedded_dsn: str | None) -> LokiExporter:
    """Make the exporter."""
    return LokiExporter(name, config)
