"""Settings of the OTLP exporter."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from gateway.base.settings import ExporterSettings
from gateway.net.destination import ClientTlsSettings, Compression, EndpointUrl, Headers


class OtlpExporterConfig(ExporterSettings):
    """Sends all three signals on to any OTLP endpoint, as they came: Tempo, another gateway, a vendor."""

    endpoint: EndpointUrl
    """Where to send, such as ``http://tempo:4317``: ``https`` is TLS, ``http`` is plain text. For ``http/protobuf`` it
    is the base URL, to which ``/v1/traces`` and the like are added."""
    protocol: Literal["grpc", "http/protobuf"] = "grpc"
    """How to send."""
    headers: Headers = Field(default_factory=dict)
    """Headers (gRPC metadata) of each request, such as ``authorization: Bearer ${env:VENDOR_TOKEN}``."""
    compression: Compression = "gzip"
    """How requests are compressed. ``zstd`` is for ``http/protobuf`` only."""
    tls: ClientTlsSettings = ClientTlsSettings()
    """Certificates, for an ``https`` endpoint."""
    concurrency: int = Field(default=4, ge=1, le=64)
    """How many requests may be under way at once. Each carries one batch."""

    @model_validator(mode="after")
    def _compression_fits(self) -> OtlpExporterConfig:
        if self.protocol == "grpc" and self.compression == "zstd":
            raise ValueError("expected compression gzip or none with protocol grpc; zstd is for http/protobuf")
        return self
