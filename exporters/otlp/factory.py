"""How the assembly makes an OTLP exporter."""

from __future__ import annotations

from exporters.otlp.config import OtlpExporterConfig
from exporters.otlp.exporter import OtlpExporter


def create(name: str, config: OtlpExporterConfig, _embedded_dsn: str | None) -> OtlpExporter:
    """Make the exporter."""
    return OtlpExporter(name, config)
