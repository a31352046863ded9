"""The gate's telemetry: what it did as events, how it is as metrics, sent as OTLP by a thread of its own.

The gate closes when the gateway is away, and the gateway is where its telemetry usually goes. So events wait, in
bounded number, until they can be sent; metrics that cannot be sent are out of date and dropped.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import deque
from typing import Any

import structlog
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from gateway import __version__
from gateway.component import DeliveryError, RefusedError, Signal
from gateway.extensions.gate.exposure import Exposure
from gateway.extensions.gate.gate import State
from gateway.extensions.gate.readiness import Answer
from gateway.net.client import OtlpClient, connect
from gateway.net.destination import EmitterSettings, destination

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_KEPT_EVENTS = 200
_METRICS_INTERVAL = 15.0
_RETRY_PAUSE = 5.0
_CUMULATIVE = 2
_SEVERITY = {State.OPEN: (9, "INFO"), State.CLOSED: (9, "INFO"), State.UNKNOWN: (17, "ERROR")}
_EVENTS = {State.OPEN: "gate.opened", State.CLOSED: "gate.closed", State.UNKNOWN: "gate.failed"}


class Reporter:
    """Sends what it is told. Nothing of it waits for the network, but `stop`.

    Events: ``gate.opened``, ``gate.closed``, and ``gate.failed`` where Tailscale does not do what it is told. Metrics:
    ``obs_hub.gate.open`` (1 open, 0 closed, absent while that is not known) and ``obs_hub.gate.checks``.
    """

    def __init__(self, settings: EmitterSettings, attributes: dict[str, str]) -> None:
        self._to = {signal: destination(settings, signal) for signal in (Signal.LOGS, Signal.METRICS)}
        self._attributes = attributes
        self._began = time.time_ns()
        self._checks = {True: 0, False: 0}
        self._measured_at = float("-inf")
        self._events: deque[bytes] = deque(maxlen=_KEPT_EVENTS)
        self._metrics: bytes | None = None
        self._wake = threading.Event()
        self._stopping = False
        self._away = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()), name="gate-telemetry", daemon=True)
        self._thread.start()

    def change(self, state: State, reason: str, exposure: Exposure | None) -> None:
        """Tell that the gate opened, closed, or lost sight of which."""
        request = ExportLogsServiceRequest()
        owner = request.resource_logs.add()
        _set(owner.resource.attributes, _resource())
        scope = owner.scope_logs.add(scope={"name": "obs_hub.gate", "version": __version__})
        number, text = _SEVERITY[state]
        now = time.time_ns()
        record = scope.log_records.add(
            time_unix_nano=now,
            observed_time_unix_nano=now,
            severity_number=number,
            severity_text=text,
            event_name=_EVENTS[state],
        )
        record.body.string_value = reason
        url = {"url.full": exposure.url} if exposure and exposure.url else {}
        _set(record.attributes, {**self._attributes, "obs_hub.gate.reason": reason, **url})
        self._events.append(request.SerializeToString())
        self._measured_at = float("-inf")
        self._wake.set()

    def check(self, answer: Answer, state: State) -> None:
        """Count an answer, and measure where it is time to."""
        self._checks[answer.ready] += 1
        if time.monotonic() - self._measured_at >= _METRICS_INTERVAL:
            self._measured_at = time.monotonic()
            self._metrics = self._measured(state)
            self._wake.set()

    def stop(self, seconds: float) -> None:
        """Send what there is, for so many seconds at most, and end."""
        self._stopping = True
        self._wake.set()
        self._thread.join(seconds)

    def _measured(self, state: State) -> bytes:
        request = ExportMetricsServiceRequest()
        owner = request.resource_metrics.add()
        _set(owner.resource.attributes, _resource())
        scope = owner.scope_metrics.add(scope={"name": "obs_hub.gate", "version": __version__})
        now = time.time_ns()
        if state is not State.UNKNOWN:
            metric = scope.metrics.add(name="obs_hub.gate.open", unit="1", description="Whether the gate is open")
            point = metric.gauge.data_points.add(time_unix_nano=now, as_int=int(state is State.OPEN))
            _set(point.attributes, self._attributes)
        checks = scope.metrics.add(
            name="obs_hub.gate.checks", unit="{check}", description="Answers of the gateway, by whether it was ready"
        )
        checks.sum.aggregation_temporality = _CUMULATIVE  # type: ignore[assignment]
        checks.sum.is_monotonic = True
        for ready, count in self._checks.items():
            number = checks.sum.data_points.add(start_time_unix_nano=self._began, time_unix_nano=now, as_int=count)
            _set(number.attributes, {**self._attributes, "obs_hub.gate.ready": str(ready).lower()})
        return request.SerializeToString()

    async def _send(self) -> None:
        clients: dict[Signal, OtlpClient] = {signal: connect(to) for signal, to in self._to.items()}
        try:
            while True:
                ending = self._stopping
                self._wake.clear()
                await self._send_all(clients)
                if ending:
                    return
                await asyncio.to_thread(self._wake.wait, _RETRY_PAUSE if self._events else None)
        finally:
            for client in clients.values():
                await client.close()

    async def _send_all(self, clients: dict[Signal, OtlpClient]) -> None:
        """Send until there is nothing left, or the destination does not take it."""
        metrics, self._metrics = self._metrics, None
        if metrics is not None and not await self._try(clients[Signal.METRICS], Signal.METRICS, metrics):
            self._measured_at = float("-inf")  # the next answer is measured again
        while self._events and await self._try(clients[Signal.LOGS], Signal.LOGS, self._events[0]):
            self._events.popleft()

    async def _try(self, client: OtlpClient, signal: Signal, payload: bytes) -> bool:
        """Send once. Returns False when it may be sent again."""
        try:
            await client.send(signal, payload)
        except RefusedError as error:
            _log.warning("the gate's telemetry is refused, and left out", reason=str(error))
        except DeliveryError as error:
            if not self._away:
                self._away = True
                _log.warning("the gate's telemetry cannot be sent for now", reason=str(error))
            return False
        self._away = False
        return True


def _resource() -> dict[str, str]:
    """Say who it is: ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` add to it and win."""
    own = {
        "service.name": "obs-hub-gate",
        "service.version": __version__,
        "host.name": socket.gethostname(),
    }
    merged = Resource(own).merge(OTELResourceDetector().detect())
    return {name: str(value) for name, value in merged.attributes.items()}


def _set(target: Any, attributes: dict[str, str]) -> None:
    for key, value in attributes.items():
        target.add(key=key).value.string_value = value
