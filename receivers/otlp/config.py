"""The settings of the OTLP receiver, in the shape the OpenTelemetry Collector's users know.

.. code-block:: yaml

    receivers:
      otlp:
        protocols:
          grpc:
            endpoint: 0.0.0.0:4317
            auth: {authenticator: tokens}
            tls: {cert_file: /etc/obs-hub/tls.crt, key_file: /etc/obs-hub/tls.key}
          http:
            cors: {allowed_origins: ["https://*.example.com"]}
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from gateway.base.settings import ByteSize, Settings
from gateway.net.hosts import HttpListenerSettings
from gateway.net.listeners import Endpoint, ListenerSettings

_MIB = 2**20
_MAX_SIZE = 2**31 - 1
"""gRPC's libraries keep message sizes in 32 signed bits. HTTP is bounded alike: one payload fits through either."""

RequestSize = Annotated[ByteSize, Field(gt=0, le=_MAX_SIZE)]
"""The largest request taken, in bytes; written ``16MiB``."""


class GrpcConfig(ListenerSettings):
    """OTLP over gRPC. Requests may be compressed with gzip, snappy, zstd (all that the Collector and Alloy offer),
    deflate (zlib) or lz4.
    """

    endpoint: Endpoint = "127.0.0.1:4317"
    """Where to listen: ``host:port``."""

    max_recv_msg_size: RequestSize = 64 * _MIB
    """The largest request, compressed as well as decompressed. Larger ones get ``RESOURCE_EXHAUSTED``. A large one goes
    on in parts; see ``service.delivery.max_batch_size``."""

    max_concurrent_streams: int = Field(default=1000, ge=1)
    """Requests in flight on one connection; a client holds further ones back until one is answered.

    One beyond the limit is refused before anything of it is looked at, which clients repeat by themselves.
    """


class CorsConfig(Settings):
    """Which web pages may send telemetry from a browser (cross-origin resource sharing)."""

    allowed_origins: list[str] = Field(min_length=1)
    """Origins such as ``https://app.example.com``; ``*`` stands for any text, as in ``https://*.example.com``.

    Pages of these may send with credentials, as ``navigator.sendBeacon`` does. Where one of them is any origin at all,
    such as ``*``, no page may.
    """

    allowed_headers: list[str] = Field(default_factory=list)
    """Headers a page may send besides ``Accept``, ``Accept-Language``, ``Content-Language`` and ``Content-Type``."""

    max_age: int = Field(default=600, ge=0)
    """Seconds for which a browser remembers the answer to its preflight request."""


class HttpConfig(HttpListenerSettings):
    """OTLP over HTTP: ``POST /v1/traces``, ``/v1/metrics``, ``/v1/logs``, as protobuf or JSON.

    Bodies may be compressed with gzip, deflate (zlib), zstd, snappy (blocks or framed) or lz4.
    """

    endpoint: Endpoint = "127.0.0.1:4318"
    """Where to listen: ``host:port``."""

    max_request_body_size: RequestSize = 64 * _MIB
    """The largest request body, compressed as well as decompressed. Larger ones get 413. A large one goes on in parts;
    see ``service.delivery.max_batch_size``."""

    strict_json: bool = False
    """Whether JSON is held to the letter of the OTLP specification. Otherwise an enum value may have its name
    (``"SPAN_KIND_SERVER"``), and of several alternatives of a ``oneof`` the last counts, as the Collector has it; with
    this, records that have such are rejected."""

    cors: CorsConfig | None = None
    """Lets web pages send telemetry. Absent: none may."""


class Protocols(Settings):
    """The protocols to serve. One that is not named is not served.

    As in the Collector, a protocol named without settings (``grpc:``) is served with its defaults.
    """

    grpc: GrpcConfig | None = None
    http: HttpConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _named_is_served(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {protocol: {} if settings is None else settings for protocol, settings in data.items()}
        return data

    @model_validator(mode="after")
    def _serves_something(self) -> Protocols:
        if self.grpc is None and self.http is None:
            raise ValueError("expected at least one of grpc and http")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_what_is_not_served(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {protocol: settings for protocol, settings in write(self).items() if settings is not None}


class OtlpReceiverConfig(Settings):
    """Settings of the ``otlp`` receiver. Without any it serves both protocols on loopback."""

    protocols: Protocols = Protocols(grpc=GrpcConfig(), http=HttpConfig())
    """Which protocols to serve, and where."""
