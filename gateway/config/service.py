"""The ``service`` section: which components make up which pipeline, and the gateway's own few settings."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.base.settings import ByteSize, Duration, Settings
from gateway.component import Signal
from gateway.net.destination import EndpointUrl, Headers

_PIPELINE = re.compile(r"(?P<signal>[a-z]+)(?:/[\w.-]{1,63})?", re.ASCII)
_SIGNALS = "'metrics', 'logs' or 'traces'"


def signal_of(pipeline: str) -> Signal:
    """Return the signal of a pipeline by its name: ``logs`` for ``logs`` and for ``logs/audit``."""
    return Signal(pipeline.partition("/")[0])


def _pipeline_name(name: str) -> str:
    match = _PIPELINE.fullmatch(name)
    if match is None or match["signal"] not in list(Signal):
        more = ", with a name of its own behind it as in 'logs/audit'" if "/" in name else ""
        raise ValueError(f"expected {_SIGNALS}{more}")
    return name


PipelineName = Annotated[str, AfterValidator(_pipeline_name)]
"""A signal, with a name behind a slash where there are several pipelines of it."""


class PipelineSettings(Settings):
    """The way of one signal through the gateway: from each of its receivers, through its processors, to all of its
    exporters."""

    receivers: list[str] = Field(min_length=1)
    """Names of receivers that are defined under ``receivers``."""
    processors: list[str] = Field(default_factory=list)
    """Names of processors that are defined under ``processors``, in the order in which batches go through them."""
    exporters: list[str] = Field(min_length=1)
    """Names of exporters that are defined under ``exporters``. Each gets every batch."""


class DeliverySettings(Settings):
    """What the gateway holds on its way to the exporters."""

    max_in_flight: ByteSize = Field(default=64 * 2**20, ge=2**20)
    """Received but not yet stored: beyond it clients are told to wait and try again. What decodes to far more than
    requests usually do counts as more."""
    max_batch_size: ByteSize = Field(default=4 * 2**20, ge=2**16)
    """Larger requests are cut into several batches of this size, between records. 4 MiB is what gRPC servers take by
    default, and what a database commits quickly."""
    shutdown_grace: Duration = timedelta(seconds=10)
    """How long batches in flight may take to be stored once the gateway is told to stop."""


class OwnMetrics(Settings):
    """The gateway's metrics about itself."""

    enabled: bool = True
    """Emit them."""
    interval: Duration = Field(default=timedelta(seconds=15), ge=timedelta(seconds=1))
    """How often."""


class OwnTraces(Settings):
    """The gateway's spans about the batches it handles."""

    enabled: bool = True
    """Emit them."""
    sampling_ratio: float = Field(default=0.01, ge=0, le=1)
    """The part of all batches that is traced, 0 to 1."""


class OwnLogs(Settings):
    """The gateway's log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe message that is written."""
    format: Literal["auto", "json", "console"] = "auto"
    """``auto``: readable on a terminal, JSON otherwise."""


class TelemetrySettings(Settings):
    """What the gateway tells about itself."""

    metrics: OwnMetrics = OwnMetrics()
    traces: OwnTraces = OwnTraces()
    logs: OwnLogs = OwnLogs()
    endpoint: EndpointUrl | None = None
    """The OTLP endpoint it is sent to, such as ``http://alloy:4317``. ``null``: as ``OTEL_EXPORTER_OTLP_ENDPOINT`` and
    its kin say, and else the gateway itself, as far as it has a pipeline for the signal. It is spoken to over gRPC
    unless ``OTEL_EXPORTER_OTLP_PROTOCOL`` says ``http/protobuf``."""
    headers: Headers = Field(default_factory=dict)
    """What to send along to that endpoint, such as ``authorization``; never sent to the gateway itself."""


class ServiceSettings(Settings):
    """How the components work together."""

    pipelines: dict[PipelineName, PipelineSettings] = Field(min_length=1)
    """The pipelines, each named by its signal: ``metrics``, ``logs``, ``traces``; with a name behind it where there are
    several, such as ``logs/audit``. What a receiver gets of a signal that it is in no pipeline of is refused."""
    extensions: list[str] = Field(default_factory=list)
    """Names of extensions that are defined under ``extensions``. Only those run."""
    delivery: DeliverySettings = DeliverySettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @property
    def signals(self) -> frozenset[Signal]:
        """The signals that there are pipelines of."""
        return frozenset(map(signal_of, self.pipelines))
