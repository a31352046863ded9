"""The telemetry of a small lab, as OTLP: what the hosts, the cluster, the servers and the applications there send.

Three hours of it, up to now. What a hub sends of itself and of its machine is not here: a real one sends that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

SECOND = 10**9
MINUTE = 60 * SECOND
MINUTES = 180
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

Attributes = Mapping[str, Any]


def any_value(value: Any) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case dict():
            result = AnyValue()
            for key, each in value.items():
                result.kvlist_value.values.add(key=key).value.CopyFrom(any_value(each))
            return result
        case _:
            return AnyValue(string_value=value)


def put(target: Any, attributes: Attributes) -> None:
    for key, value in attributes.items():
        target.add(key=key).value.CopyFrom(any_value(value))


class Metrics:
    """Collects metrics, each with a point a minute."""

    def __init__(self, now: int) -> None:
        self.request = ExportMetricsServiceRequest()
        self._times = [now - minute * MINUTE for minute in range(MINUTES, -1, -1)]
        self._owners: dict[tuple[tuple[str, Any], ...], Any] = {}

    def _metric(self, name: str, resource: Attributes) -> Any:
        key = tuple(sorted(resource.items()))
        if key not in self._owners:
            owner = self.request.resource_metrics.add()
            put(owner.resource.attributes, resource)
            self._owners[key] = owner.scope_metrics.add()
        return self._owners[key].metrics.add(name=name)

    def gauge(self, name: str, resource: Attributes, value: Callable[[int], float], /, **attributes: Any) -> None:
        """A gauge, whose value at each minute a function tells."""
        metric = self._metric(name, resource)
        for minute, at in enumerate(self._times):
            put(metric.gauge.data_points.add(time_unix_nano=at, as_double=value(minute)).attributes, dotted(attributes))

    def counter(self, name: str, resource: Attributes, a_minute: float, /, **attributes: Any) -> None:
        """A counter that grows by so much a minute, and is reset to 0 halfway."""
        metric = self._metric(name, resource)
        metric.sum.is_monotonic, metric.sum.aggregation_temporality = True, 2
        for minute, at in enumerate(self._times):
            value = a_minute * (minute % (MINUTES // 2))
            put(metric.sum.data_points.add(time_unix_nano=at, as_double=value).attributes, dotted(attributes))


def dotted(attributes: Attributes) -> dict[str, Any]:
    return {key.replace("__", "."): value for key, value in attributes.items()}


def wave(low: float, high: float) -> Callable[[int], float]:
    return lambda minute: low + (high - low) * (0.5 + 0.5 * math.sin(minute / 20))


NAS = {"host.name": "nas", "service.name": "obs-hub-hostmetrics"}
NODE = {"k8s.cluster.name": "lab", "k8s.node.name": "node-1", "host.name": "node-1"}
HUB = {"service.name": "obs-hub", "service.instance.id": "another", "host.name": "nas"}


def metrics(silent_since: int = 0) -> bytes:
    """All metrics, up to so many minutes ago."""
    lab = Metrics(time.time_ns() - silent_since * MINUTE)
    _host(lab)
    _kubernetes(lab)
    _servers(lab)
    # Of a hub, what takes hours to see, and what it only has when something went wrong.
    for signal in ("metrics", "logs"):
        lab.counter("obs_hub.records.accepted", HUB, 6_000, signal=signal)
        lab.counter("obs_hub.records.stored", HUB, 6_000, signal=signal, exporter="timescale")
    lab.gauge("obs_hub.spool.size", HUB, lambda minute: 1e6 * minute, exporter="loki")
    lab.counter("obs_hub.records.dead_lettered", HUB, 2, exporter="loki", signal="logs")
    lab.counter("obs_hub.records.refused", HUB, 3, signal="metrics", reason="spool full")
    lab.counter("obs_hub.requests.refused", HUB, 1, signal="metrics", reason="spool full")
    lab.counter("obs_hub.records.duplicate", HUB, 4, exporter="timescale", signal="logs")
    lab.gauge("obs_hub.in_flight.size", HUB, wave(0, 1e6))
    lab.counter("obs_hub.connections.refused", HUB, 1, listener="otlp_grpc", reason="too many connections")
    lab.counter("obs_hub.spool.dropped.records", HUB, 1, exporter="loki")
    lab.counter("obs_hub.records.rejected_by_destination", HUB, 1, exporter="otlp")
    lab.counter("obs_hub.run.finished", HUB, 0.1, kind="pipeline", name="reading", state="succeeded")
    lab.counter("obs_hub.pipeline.documents", HUB, 3, name="reading", state="done")
    lab.gauge("obs_hub.gitops.drift", HUB, lambda _: 1, repository="home", kind="dirty")
    return lab.request.SerializeToString()


def _host(lab: Metrics) -> None:
    """Hardware that a virtual machine, on which tests mostly run, does not have."""
    lab.gauge("system.uptime", NAS, lambda minute: 86_400.0 + 60 * minute)
    for core in (0, 1):
        lab.gauge("system.cpu.utilization", NAS, wave(0.4, 0.9), cpu__mode="idle", cpu__logical_number=core)
        lab.gauge("system.cpu.utilization", NAS, wave(0.1, 0.3), cpu__mode="user", cpu__logical_number=core)
    lab.gauge("system.memory.utilization", NAS, wave(0.3, 0.6), system__memory__state="used")
    lab.gauge("system.paging.usage", NAS, wave(0, 1e8), system__paging__state="used")
    disk = {"system__filesystem__mountpoint": "/srv", "system__device": "sda1"}
    lab.gauge("system.filesystem.utilization", NAS, lambda minute: 0.93, system__filesystem__state="used", **disk)
    for state, size in (("used", lambda minute: 9e11 + 1e7 * minute), ("free", lambda minute: 1e11 - 1e7 * minute)):
        lab.gauge("system.filesystem.usage", NAS, size, system__filesystem__state=state, **disk)
    for direction in ("read", "write"):
        lab.counter("system.disk.io", NAS, 6e7, system__device="sda", disk__io__direction=direction)
    lab.counter("system.disk.io_time", NAS, 15, system__device="sda")
    for direction in ("receive", "transmit"):
        network = {"network__interface__name": "eth0", "network__io__direction": direction}
        lab.counter("system.network.io", NAS, 6e8, **network)
        lab.counter("system.network.errors", NAS, 1, **network)
        lab.counter("system.network.packet.dropped", NAS, 2, **network)
    sensor = {"hw__id": "temperature/coretemp/0", "hw__name": "coretemp", "hw__sensor_location": "Core 0"}
    lab.gauge("hw.temperature", NAS, wave(45, 80), hw__type="temperature", **sensor)
    fan = {"hw__id": "fan/nct6775/1", "hw__name": "nct6775", "hw__sensor_location": "fan1"}
    lab.gauge("hw.fan.speed", NAS, wave(700, 1500), hw__type="fan", **fan)
    for pid in (812, 813):
        process = {**NAS, "process.pid": pid, "process.executable.name": "postgres", "process.owner": "postgres"}
        for mode in ("user", "system"):
            lab.gauge("process.cpu.utilization", process, wave(0, 0.2), cpu__mode=mode)
        lab.gauge("process.memory.usage", process, wave(1e8, 2e8))
        lab.gauge("process.thread.count", process, lambda _: 1)
        lab.gauge("process.unix.file_descriptor.count", process, lambda _: 40)
        lab.gauge("process.uptime", process, lambda minute: 3_600.0 + 60 * minute)
        for direction in ("read", "write"):
            lab.counter("process.disk.io", process, 6e6, disk__io__direction=direction)
    container = {**NAS, "container.id": "f2a1", "container.name": "web", "container.image.name": "nginx"}
    lab.gauge("container.cpu.usage", container, wave(0, 1.5))
    lab.gauge("container.memory.working_set", container, lambda _: 3e8)
    lab.gauge("container.memory.available", container, lambda _: 1e8)
    lab.counter("container.restarts", container, 0.02)
    for state in ("starting", "healthy", "unhealthy"):
        lab.gauge(
            "container.health.status",
            container,
            lambda _, now=state: now == "unhealthy",
            container__health__state=state,
        )
    lab.gauge("container.uptime", container, lambda minute: 60.0 * minute)
    for direction in ("receive", "transmit"):
        network = {"network__interface__name": "eth0", "network__io__direction": direction}
        lab.counter("container.network.io", container, 6e7, **network)


def _kubernetes(lab: Metrics) -> None:
    """With the names of the semantic conventions, as from Alloy, and those of the Collector's receivers."""
    lab.counter("k8s.node.cpu.time", NODE, 90)
    lab.gauge("k8s.node.memory.working_set", NODE, wave(2e9, 6e9))
    condition = {"k8s__node__condition__type": "Ready"}
    lab.gauge("k8s.node.condition.status", NODE, lambda _: 1, k8s__node__condition__status="true", **condition)
    lab.gauge("k8s.node.condition_ready", {**NODE, "k8s.node.name": "node-2"}, lambda _: 0)
    for pod, phase in (("web-1", "Running"), ("web-2", "Pending")):
        resource = {**NODE, "k8s.namespace.name": "shop", "k8s.pod.name": pod}
        lab.counter("k8s.pod.cpu.time", resource, 12)
        lab.gauge("k8s.pod.memory.working_set", resource, wave(1e8, 3e8))
        lab.gauge("k8s.pod.status.phase", resource, lambda _: 1, k8s__pod__status__phase=phase)
        lab.counter("k8s.container.restart.count", {**resource, "k8s.container.name": "web"}, 0.1)
    other = {**NODE, "k8s.namespace.name": "mail", "k8s.pod.name": "smtp-0"}
    lab.gauge("k8s.pod.phase", other, lambda _: 2)
    lab.counter("k8s.container.restarts", {**other, "k8s.container.name": "smtp"}, 0.05)
    deployment = {"k8s.cluster.name": "lab", "k8s.namespace.name": "shop", "k8s.deployment.name": "web"}
    lab.gauge("k8s.deployment.pod.desired", deployment, lambda _: 2)
    lab.gauge("k8s.deployment.pod.available", deployment, lambda _: 1)


def _servers(lab: Metrics) -> None:
    """PostgreSQL as the Collector watches it, Loki and Alloy as Alloy scrapes them."""
    database = {"service.name": "postgresql", "postgresql.database.name": "shop"}
    lab.counter("postgresql.commits", database, 600)
    lab.counter("postgresql.rollbacks", database, 6)
    lab.gauge("postgresql.backends", database, wave(2, 20))
    lab.gauge("postgresql.db_size", database, wave(1e9, 2e9))
    loki = {"service.name": "loki", "service.instance.id": "127.0.0.1:3100"}
    lab.counter("loki_distributor_lines_received_total", loki, 1_000, tenant="fake")
    lab.counter("loki_distributor_bytes_received_total", loki, 2e5, tenant="fake")
    lab.counter("loki_discarded_samples_total", loki, 1, tenant="fake", reason="line_too_long")
    lab.gauge("loki_ingester_memory_streams", loki, wave(10, 40), tenant="fake")
    alloy = {"service.name": "alloy", "host.name": "nas"}
    lab.gauge("alloy_component_controller_running_components", alloy, lambda _: 1, health_type="unhealthy")
    lab.gauge("alloy_component_controller_running_components", alloy, lambda _: 17, health_type="healthy")
    lab.gauge("alloy_resources_process_resident_memory_bytes", alloy, wave(1e8, 2e8))
    exporter = {"component_id": "otelcol.exporter.otlphttp.gateway"}
    for items in ("metric_points", "log_records", "spans"):
        lab.counter(f"otelcol_exporter_sent_{items}_total", alloy, 6_000, **exporter)
    lab.counter("otelcol_exporter_send_failed_log_records_total", alloy, 1, **exporter)
    lab.gauge("otelcol_exporter_queue_size", alloy, wave(0, 5), **exporter)


# -- Logs and events ---------------------------------------------------------------------------------------------------


def _journal() -> Iterator[tuple[str, int, str, dict[str, Any]]]:
    """Yield identifier, severity number, message and further attributes, as the journal receiver sends them."""
    own = {"process.pid": 812, "process.executable.path": "/usr/sbin/sshd", "process.command_line": "sshd: root"}
    yield "sshd", 9, "Accepted publickey for root", {"systemd.unit": "ssh.service", **own}
    yield "sshd", 13, "maximum authentication attempts exceeded", {"systemd.unit": "ssh.service", **own}
    yield "backup", 17, "cannot reach the repository", {"systemd.unit": "backup.service", "process.pid": 4711}
    yield "systemd", 13, "backup.service: Failed with result 'exit-code'.", {"systemd.unit": "init.scope"}
    yield (
        "systemd",
        9,
        "backup.service: Scheduled restart job, restart counter is at 1.",
        {"systemd.unit": "init.scope"},
    )


def journal(silent_since: int = 0) -> bytes:
    request = ExportLogsServiceRequest()
    now = time.time_ns() - silent_since * MINUTE
    for identifier, severity, message, attributes in _journal():
        owner = request.resource_logs.add()
        put(owner.resource.attributes, {"service.name": identifier, "host.name": "nas", "host.id": "8a3f"})
        scope = owner.scope_logs.add()
        for minute in range(50, -1, -5):  # Loki takes nothing that is an hour behind in its stream
            record = scope.log_records.add(
                time_unix_nano=now - minute * MINUTE - SECOND, observed_time_unix_nano=now, severity_number=severity
            )
            record.body.string_value = message
            put(record.attributes, {"syslog.identifier": identifier, "systemd.boot_id": "77", **attributes})
            if identifier == "backup":
                record.trace_id = bytes.fromhex(TRACE)
                record.span_id = bytes.fromhex("00f067aa0ba902b7")
    return request.SerializeToString()


def own_log() -> bytes:
    """What the hub writes of a job."""
    request = ExportLogsServiceRequest()
    owner = request.resource_logs.add()
    put(owner.resource.attributes, HUB)
    scope = owner.scope_logs.add()
    scope.scope.name = "obs_hub.jobs"
    record = scope.log_records.add(time_unix_nano=time.time_ns() - MINUTE, severity_number=9)
    record.body.string_value = "read 3 documents"
    record.trace_id, record.span_id = bytes.fromhex(TRACE), (1).to_bytes(8, "big")
    return request.SerializeToString()


def events(silent_since: int = 0) -> bytes:
    """Documents ``{source, event_type, payload, meta}`` of the pipeline `reading`, as it sends them on."""
    book = {"title": "Middlemarch", "author": "George Eliot"}
    session = {**book, "duration_minutes": 25, "pages_read": 18, "device": "tablet"}
    request = ExportLogsServiceRequest()
    now = time.time_ns() - silent_since * MINUTE
    for source, documents in {
        "reading": [("book.opened", book), ("reading.session_finished", session), ("book.finished", book)],
        "cover-craft": [("cover.created", {"title": "Middlemarch", "style": "woodcut", "duration_ms": 5_200})],
    }.items():
        owner = request.resource_logs.add()
        put(owner.resource.attributes, {"service.name": source})
        scope = owner.scope_logs.add()
        for minute in range(1, MINUTES, 30):
            for name, payload in documents:
                at = now - minute * MINUTE
                record = scope.log_records.add(
                    time_unix_nano=at, observed_time_unix_nano=at + 4 * SECOND, severity_number=9, event_name=name
                )
                record.body.CopyFrom(any_value(payload))
                record.trace_id = bytes.fromhex(TRACE)
                put(record.attributes, {"app.version": "3.1"})
    return request.SerializeToString()


# -- Traces ------------------------------------------------------------------------------------------------------------


def traces(silent_since: int = 0) -> bytes:
    """A trace every twenty minutes: a request, the backup it started, and a query of that. The latest is `TRACE`."""
    request = ExportTraceServiceRequest()
    steps = (("web", "GET /backup", 1, 0, 900), ("backup", "run", 2, 1, 800), ("backup", "SELECT", 3, 2, 40))
    for age in range(1, MINUTES, 20):
        began = time.time_ns() - (silent_since + age) * MINUTE
        trace = bytes.fromhex(TRACE) if age == 1 else age.to_bytes(16, "big")
        for service, name, number, parent, milliseconds in steps:
            owner = request.resource_spans.add()
            put(owner.resource.attributes, {"service.name": service, "service.namespace": "lab", "host.name": "nas"})
            scope = owner.scope_spans.add()
            scope.scope.name, scope.scope.version = "library", "1.2"
            span = scope.spans.add(
                trace_id=trace,
                span_id=number.to_bytes(8, "big"),
                parent_span_id=parent.to_bytes(8, "big") if parent else b"",
                name=name,
                kind=2,
                start_time_unix_nano=began + number * 10**6,
                end_time_unix_nano=began + (number + milliseconds) * 10**6,
            )
            put(span.attributes, {"step": number})
            span.status.code, span.status.message = (2, "failed") if number == 2 else (0, "")
            if number == 2:
                event = span.events.add(time_unix_nano=began + 5 * 10**6, name="exception")
                put(event.attributes, {"exception.type": "OSError"})
                link = span.links.add(trace_id=(99).to_bytes(16, "big"), span_id=(98).to_bytes(8, "big"))
                put(link.attributes, {"why": "queued"})
    return request.SerializeToString()
