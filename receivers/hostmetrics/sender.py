"""Sending: where to, by which protocol, and what is said when it does not work."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast, get_args

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData

from gateway.pipeline.proxies import channel_options, is_local
from receivers.hostmetrics.config import HostMetricsConfig, Protocol, check_endpoint

_log = logging.getLogger(__name__)

_DEFAULT_ENDPOINTS: dict[Protocol, str] = {"grpc": "http://127.0.0.1:4317", "http/protobuf": "http://127.0.0.1:4318"}
_DEFAULT_TIMEOUT = "10"
_HTTP_PATH = "/v1/metrics"

# Where the SDK's exporters say why an export failed; `export` itself only returns that it did.
_SDK_LOGGERS: dict[Protocol, str] = {
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.metric_exporter",
}


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to send. ``timeout`` is in seconds; ``insecure`` None leaves it to the SDK's environment variables."""

    protocol: Protocol
    endpoint: str
    insecure: bool | None
    headers: Mapping[str, str]
    timeout: float


def destination(config: HostMetricsConfig, environ: Mapping[str, str] = os.environ) -> Destination:
    """Work out where to send: settings first, then the standard environment variables, then this machine.

    Certificates and compression are left to the SDK, which reads ``OTEL_EXPORTER_OTLP_CERTIFICATE`` and the others of
    its kind itself. Raises `ValueError` for a protocol or an endpoint that cannot be used.
    """

    def variable(name: str) -> str | None:
        return environ.get(f"OTEL_EXPORTER_OTLP_METRICS_{name}") or environ.get(f"OTEL_EXPORTER_OTLP_{name}")

    protocol = config.protocol or variable("PROTOCOL") or "grpc"
    if protocol not in get_args(Protocol):
        raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}; expected {' or '.join(get_args(Protocol))}")
    protocol = cast("Protocol", protocol)
    if config.endpoint:
        endpoint, insecure = check_endpoint(config.endpoint), config.endpoint.startswith("http://")
    else:
        endpoint, insecure = variable("ENDPOINT") or _DEFAULT_ENDPOINTS[protocol], None
    # The specification takes the variable of the one signal as it is, and the common one as a base.
    as_it_is = not config.endpoint and environ.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
    if protocol == "http/protobuf" and not as_it_is:
        endpoint = endpoint.rstrip("/").removesuffix(_HTTP_PATH) + _HTTP_PATH
    timeout = (
        config.timeout / timedelta(seconds=1) if config.timeout else float(variable("TIMEOUT") or _DEFAULT_TIMEOUT)
    )
    return Destination(
        protocol,
        endpoint,
        insecure,
        {name.lower(): value.get_secret_value() for name, value in config.headers.items()},
        # So that an outage never holds up the next collection.
        min(timeout, config.collection_interval / timedelta(seconds=1)),
    )


class Sender:
    """Sends metrics to one destination. Nothing is kept: what cannot be sent now is dropped.

    The exporter retries within its timeout. An outage is logged when it begins, with the reason, and when it is over.
    """

    def __init__(self, to: Destination) -> None:
        self.destination = to
        self._exporter = _exporter(to)
        self._dropped = 0

    @property
    def failing(self) -> bool:
        """Whether the last export failed."""
        return self._dropped > 0

    def send(self, data: MetricsData) -> bool:
        """Send, and return whether the destination accepted it. Blocks for at most the timeout; does not raise."""
        with _sdk_log(_SDK_LOGGERS[self.destination.protocol]) as said:
            try:
                accepted = self._exporter.export(data) is MetricExportResult.SUCCESS
            except Exception as error:  # the SDK raises when it is shut down during an export
                said.append(f"{type(error).__name__}: {error}")
                accepted = False
        if accepted:
            self._report_end_of_outage()
        else:
            self._report_outage(said)
        return accepted

    def close(self) -> None:
        """Give up an export under way, and release the connection."""
        self._exporter.shutdown()

    def _report_outage(self, said: list[str]) -> None:
        self._dropped += 1
        if self._dropped == 1:
            _log.warning(
                "host metrics cannot be sent to %s: %s (what is collected until that works again is dropped)",
                self.destination.endpoint,
                said[-1] if said else "no reason given",
            )

    def _report_end_of_outage(self) -> None:
        if self._dropped:
            _log.info(
                "host metrics are sent to %s again; %d collections were dropped",
                self.destination.endpoint,
                self._dropped,
            )
        self._dropped = 0


def _exporter(to: Destination) -> MetricExporter:
    # Imported only when needed: each of them brings a network stack along.
    if to.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter

        options: Any = channel_options(to.endpoint)  # the SDK's type allows for text only
        return GrpcExporter(
            to.endpoint, to.insecure, headers=dict(to.headers), timeout=to.timeout, channel_options=options
        )
    import requests
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter

    session = requests.Session()
    session.trust_env = not is_local(to.endpoint)  # else it would ask the proxy that the environment names
    return HttpExporter(to.endpoint, headers=dict(to.headers), timeout=to.timeout, session=session)


class _Listener(logging.Filter):
    """Takes what one thread says to a logger, leaving what others say alone."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread:
            return True
        self.said.append(record.getMessage())
        return False


@contextmanager
def _sdk_log(name: str) -> Iterator[list[str]]:
    """Collect what the SDK logs meanwhile instead of letting it through; it logs every retry of an outage."""
    listener = _Listener()
    logger = logging.getLogger(name)
    # In front of the SDK's own filter, which withholds repetitions.
    logger.filters.insert(0, listener)
    try:
        yield listener.said
    finally:
        logger.removeFilter(listener)
