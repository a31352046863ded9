"""What an OTLP exporter is, and how the assembly makes one."""

from __future__ import annotations

from exporters.otlp.config import OtlpExporterConfig
from gateway.component import Exporter
from gateway.component.declaration import Context, ExporterComponent


def create(name: str, config: OtlpExporterConfig, context: Context) -> Exporter:
    """Make the exporter."""
    from exporters.otlp.exporter import OtlpExporter

    return OtlpExporter(name, config)


COMPONENT = ExporterComponent(settings=OtlpExporterConfig, create=create)
