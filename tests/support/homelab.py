"""What the hosts and services of a homelab have sent over some time, as OTLP batches: for pages that show it.

The metrics are those of the ``hostmetrics`` receiver, the values walk as those of machines do: by day and night, with
what depends on the processor following it. The same arguments make the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gateway.component import Batch, Signal
from receivers.hostmetrics import conventions as of
from receivers.hostmetrics.conventions import Attribute, Instrument, Kind
from tests.support.telemetry import SECOND, set_attributes

HOSTS = ("nas", "router", "media", "pi-kitchen", "k3s-1", "k3s-2", "k3s-3", "desktop", "backup", "workshop")
SERVICES = ("photos-web", "photos-api", "photos-db")
"""Those of a trace: each calls the next."""

GIB = 2**30

STARTED = 1_700_000_000
"""When all machines were started, in seconds since the Unix epoch."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """What one series had at each time."""

    instrument: Instrument
    attributes: Mapping[str, str]
    values: _Floats


def _nanoseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1) * 1_000


def _dice(*what: object) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256(repr(what).encode()).digest()))


def collection(host: str, its_series: Sequence[Series], at: npt.NDArray[np.int64], number: int) -> Batch:
    """What a host sends at one of the times that its series have values at."""
    request = ExportMetricsServiceRequest()
    owner = request.resource_metrics.add(schema_url=of.SCHEMA_URL)
    set_attributes(owner.resource.attributes, resource(host))
    scope = owner.scope_metrics.add()
    scope.scope.name = "obs_hub.hostmetrics"
    by_instrument: dict[Instrument, list[Series]] = {}
    for series in its_series:
        by_instrument.setdefault(series.instrument, []).append(series)
    for instrument, members in by_instrument.items():
        metric = scope.metrics.add(name=instrument.name, unit=instrument.unit, description=instrument.description)
        counts = instrument.kind is not Kind.GAUGE
        if counts:
            metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
            metric.sum.is_monotonic = instrument.kind is Kind.COUNTER
        data = metric.sum if counts else metric.gauge
        for series in members:
            point = data.data_points.add(time_unix_nano=int(at[number]), as_double=series.values[number])
            if counts:
                point.start_time_unix_nano = STARTED * SECOND
            set_attributes(point.attributes, series.attributes)
    return Batch.of(Signal.METRICS, request.SerializeToString())


def resource(host: str) -> dict[str, str]:
    """The resource of what a host says of itself."""
    arch = "arm64" if host.startswith(("pi", "router")) else "amd64"
    return {"host.name": host, "service.name": "obs-hub-hostmetrics", "host.arch": arch, "os.type": "linux"}


def host_series(host: str, at: npt.NDArray[np.int64]) -> Iterator[Series]:
    """Every series of a host, with its values at these times."""
    seconds = at / SECOND
    passed = np.diff(seconds, prepend=seconds[0] - 60)
    phase, level = _dice(host).uniform(size=2)

    def noise(name: str, size: float) -> _Floats:
        """What is particular to a host, and lasts: it has the same value at the same time however it is asked for."""
        a, b, c = _dice(host, name).uniform(0, 2 * np.pi, 3)
        quick = np.sin(seconds / 61 + a) * np.sin(seconds / 247 + b) + np.sin(seconds / 1013 + c)
        jitter = np.modf(np.abs(np.sin(seconds * 12.9898 + a) * 43758.5453))[0] - 0.5
        return size * (0.45 * quick + 0.6 * jitter)

    evening = 0.5 - 0.5 * np.cos((seconds % 86_400) / 86_400 * 2 * np.pi - 2 * np.pi * phase / 4)
    nightly = ((seconds % 86_400) < 2_700) * (0.35 if host in ("nas", "backup") else 0.05)
    busy = np.clip(0.05 + 0.25 * level + 0.3 * level * evening + nightly + noise("busy", 0.05), 0.01, 0.97)
    waiting = np.clip(0.02 + nightly / 6 + noise("wait", 0.01), 0, 0.2)
    shares = {"user": busy * 0.68, "system": busy * 0.32 * (1 - waiting), "iowait": busy * 0.32 * waiting}
    shares["idle"] = 1 - sum(shares.values())
    cpus = 4 if "arm64" in resource(host).values() else 8

    def grown(rate: _Floats, name: str) -> _Floats:
        """A counter that grows by so much a second, since about when the machine was started."""
        return np.cumsum(np.maximum(rate, 0) * passed) + _dice(host, name).integers(10**6, 10**9)

    for mode, share in shares.items():
        yield Series(of.CPU_UTILIZATION, {Attribute.CPU_MODE: mode}, share)
        yield Series(of.CPU_TIME, {Attribute.CPU_MODE: mode}, grown(share * cpus, f"cpu {mode}"))
    yield Series(of.CPU_LOGICAL_COUNT, {}, np.full(len(at), float(cpus)))
    for instrument, inertia in ((of.LOAD_AVERAGE_1M, 1.0), (of.LOAD_AVERAGE_5M, 0.5), (of.LOAD_AVERAGE_15M, 0.2)):
        yield Series(instrument, {}, np.clip(busy * cpus + noise("load", 0.4 * inertia), 0, None))

    total = (4 if cpus == 4 else 16) * GIB
    used = np.clip(0.35 + 0.3 * level + 0.08 * evening + noise("memory", 0.01), 0.1, 0.92)
    memory = {"used": used, "cached": (1 - used) * 0.6, "buffers": (1 - used) * 0.05, "free": (1 - used) * 0.35}
    for state, share in memory.items():
        yield Series(of.MEMORY_USAGE, {Attribute.SYSTEM_MEMORY_STATE: state}, np.round(share * total))
        yield Series(of.MEMORY_UTILIZATION, {Attribute.SYSTEM_MEMORY_STATE: state}, share)
    yield Series(of.MEMORY_LIMIT, {}, np.full(len(at), float(total)))
    yield Series(of.MEMORY_AVAILABLE, {}, np.round((1 - used) * 0.95 * total))
    for state, share in (("used", used / 8), ("free", 1 - used / 8)):
        yield Series(of.PAGING_USAGE, {Attribute.SYSTEM_PAGING_STATE: state}, np.round(share * 2 * GIB))

    for device, size in (("nvme0n1", 512 * GIB), ("sda", 4_096 * GIB)):
        rate = np.clip(2e6 * busy + nightly * 8e7 + noise(device, 4e5), 1e3, None)
        for direction, part in (("read", 0.4), ("write", 0.6)):
            attributes = {Attribute.SYSTEM_DEVICE: device, Attribute.DISK_IO_DIRECTION: direction}
            yield Series(of.DISK_IO, attributes, grown(rate * part, device + direction))
            yield Series(of.DISK_OPERATIONS, attributes, grown(rate * part / 32_768, f"operations {device}{direction}"))
        yield Series(of.DISK_IO_TIME, {Attribute.SYSTEM_DEVICE: device}, grown(np.clip(rate / 1.5e8, 0, 1), device))
        yield Series(of.DISK_LIMIT, {Attribute.SYSTEM_DEVICE: device}, np.full(len(at), float(size)))
    for mount, device, size in (("/", "/dev/nvme0n1p2", 480 * GIB), ("/srv", "/dev/sda1", 4_000 * GIB)):
        filesystem = {
            Attribute.SYSTEM_DEVICE: device,
            Attribute.SYSTEM_FILESYSTEM_MOUNTPOINT: mount,
            Attribute.SYSTEM_FILESYSTEM_TYPE: "ext4",
            Attribute.SYSTEM_FILESYSTEM_MODE: "rw",
        }
        fullness = 0.3 + 0.55 * _dice(host, mount).uniform() + 0.05 * ((seconds - STARTED) % 4e6) / 4e6
        for state, share in (("used", fullness), ("free", 1 - fullness)):
            yield Series(
                of.FILESYSTEM_USAGE, filesystem | {Attribute.SYSTEM_FILESYSTEM_STATE: state}, np.round(share * size)
            )
        yield Series(of.FILESYSTEM_UTILIZATION, filesystem | {Attribute.SYSTEM_FILESYSTEM_STATE: "used"}, fullness)
        yield Series(of.FILESYSTEM_LIMIT, filesystem, np.full(len(at), float(size)))

    for interface, speed in (("eth0", 3e6), ("wg0", 2e5)):
        rate = np.clip(speed * (busy + nightly) + noise(interface, speed / 10), 100, None)
        for direction, part in (("receive", 0.7), ("transmit", 0.3)):
            attributes = {Attribute.NETWORK_INTERFACE_NAME: interface, Attribute.NETWORK_IO_DIRECTION: direction}
            yield Series(of.NETWORK_IO, attributes, grown(rate * part, interface + direction))
            packets = {Attribute.SYSTEM_DEVICE: interface, Attribute.NETWORK_IO_DIRECTION: direction}
            yield Series(of.NETWORK_PACKET_COUNT, packets, grown(rate * part / 900, f"packets {interface}{direction}"))
            yield Series(of.NETWORK_ERRORS, attributes, np.zeros(len(at)))
    for state, count in (
        ("running", 1 + 3 * busy),
        ("sleeping", 180 + 60 * level + 0 * busy),
        ("blocked", 9 * waiting),
    ):
        yield Series(of.PROCESS_COUNT, {Attribute.PROCESS_STATE: state}, np.round(count))
    yield Series(of.PROCESS_CREATED, {}, grown(2 + 9 * busy, "created"))
    yield Series(of.UPTIME, {}, np.round(seconds - STARTED))
    for chip, warmth in (("coretemp", 32 + 38 * busy), ("nvme", 34 + 12 * busy)):
        sensor = {Attribute.HW_TYPE: "temperature", Attribute.HW_ID: f"temperature/{chip}/0", Attribute.HW_NAME: chip}
        yield Series(of.TEMPERATURE, sensor, np.round(warmth + noise(chip, 0.8), 1))
    fan = {Attribute.HW_TYPE: "fan", Attribute.HW_ID: "fan/nct6775/0", Attribute.HW_NAME: "nct6775 case"}
    yield Series(of.FAN_SPEED, fan, np.round(600 + 900 * busy))


_LINES: dict[str, list[tuple[SeverityNumber, str]]] = {
    "nginx": [
        (SeverityNumber.SEVERITY_NUMBER_INFO, 'GET /albums/{n} 200 in {ms} ms "Mozilla/5.0"'),
        (SeverityNumber.SEVERITY_NUMBER_INFO, "POST /upload 201 in {ms} ms"),
        (SeverityNumber.SEVERITY_NUMBER_WARN, "upstream answered slowly: {ms} ms for /albums/{n}"),
    ],
    "sshd": [
        (SeverityNumber.SEVERITY_NUMBER_INFO, "Accepted publickey for ada from 192.0.2.{n} port 5{n} ssh2"),
        (SeverityNumber.SEVERITY_NUMBER_WARN, "Failed password for invalid user admin from 198.51.100.{n} port 4{n}"),
    ],
    "smartd": [
        (SeverityNumber.SEVERITY_NUMBER_INFO, "Device: /dev/sda [SAT], temperature changed to {n} Celsius"),
        (SeverityNumber.SEVERITY_NUMBER_ERROR, "Device: /dev/sda [SAT], {n} currently unreadable (pending) sectors"),
    ],
    "restic": [
        (SeverityNumber.SEVERITY_NUMBER_INFO, "snapshot {n}a7f1c2 saved, {ms} files unmodified"),
        (SeverityNumber.SEVERITY_NUMBER_DEBUG, "loaded index {n}, {ms} entries"),
    ],
    "home-assistant": [
        (SeverityNumber.SEVERITY_NUMBER_INFO, "sensor.kitchen_temperature changed to 2{n}"),
        (SeverityNumber.SEVERITY_NUMBER_ERROR, "Timeout fetching weather data after {ms} ms"),
    ],
}
_SELDOM = {SeverityNumber.SEVERITY_NUMBER_WARN: 0.06, SeverityNumber.SEVERITY_NUMBER_ERROR: 0.015}


def log_lines(host: str, first: int, end: int, each: timedelta) -> Batch:
    """A host's log from ``first`` to before ``end``, nanoseconds since the Unix epoch: a line ``each`` so often."""
    request = ExportLogsServiceRequest()
    dice = _dice("logs", host, first)
    its_services = [name for name in _LINES if (sum(map(ord, name + host))) % 2] or ["sshd"]
    scopes = {}
    for service in its_services:
        owner = request.resource_logs.add()
        set_attributes(owner.resource.attributes, {"host.name": host, "service.name": service})
        scopes[service] = owner.scope_logs.add()
    step = _nanoseconds(each)
    for at in range(first, end, step):
        service = its_services[dice.integers(len(its_services))]
        severity, line = _LINES[service][0]
        for other, text in _LINES[service][1:]:
            if dice.random() < _SELDOM.get(other, 0.3):
                severity, line = other, text
        record = scopes[service].log_records.add(
            time_unix_nano=at + int(dice.integers(step)),
            observed_time_unix_nano=at + step,
            severity_number=severity,
            severity_text=SeverityNumber.Name(severity).removeprefix("SEVERITY_NUMBER_"),
        )
        record.body.string_value = line.format(n=dice.integers(10, 99), ms=dice.integers(3, 900))
    return Batch.of(Signal.LOGS, request.SerializeToString())


_EVENTS = (
    ("backup.finished", "restic", "Nightly backup finished: 412 GiB, 3 new snapshots"),
    ("deploy.finished", "gitops", "Deployed photos 2.4.1"),
    ("device.plugged_in", "udev", "USB disk plugged in: /dev/sdc"),
    ("door.opened", "home-assistant", "The front door was opened"),
    ("certificate.renewed", "caddy", "Certificate of photos.home.arpa renewed"),
)


def events(first: int, end: int, each: timedelta) -> Batch:
    """Events of several hosts from ``first`` to before ``end``, about one ``each`` so often."""
    request = ExportLogsServiceRequest()
    dice = _dice("events", first)
    step = _nanoseconds(each)
    for at in range(first, end, step):
        name, service, body = _EVENTS[dice.integers(len(_EVENTS))]
        owner = request.resource_logs.add()
        host = HOSTS[dice.integers(3)]
        set_attributes(owner.resource.attributes, {"host.name": host, "service.name": service})
        record = owner.scope_logs.add().log_records.add(
            time_unix_nano=at + int(dice.integers(step)), severity_number=SeverityNumber.SEVERITY_NUMBER_INFO
        )
        record.event_name, record.body.string_value = name, body
        record.severity_text = "INFO"
    return Batch.of(Signal.LOGS, request.SerializeToString())


def traces(first: int, end: int, each: timedelta) -> tuple[Batch, Batch]:
    """A trace ``each`` so often of what a photo album does, and the log records that its API writes within them.

    One in twenty fails in the database.
    """
    spans, lines = ExportTraceServiceRequest(), ExportLogsServiceRequest()
    scopes = {}
    for number, service in enumerate(SERVICES):
        owner = spans.resource_spans.add()
        set_attributes(owner.resource.attributes, {"host.name": HOSTS[4 + number], "service.name": service})
        scopes[service] = owner.scope_spans.add()
        scopes[service].scope.name = "opentelemetry.instrumentation"
    writer = lines.resource_logs.add()
    set_attributes(writer.resource.attributes, {"host.name": HOSTS[5], "service.name": SERVICES[1]})
    logged = writer.scope_logs.add()
    step = _nanoseconds(each)
    dice = _dice("traces", first)
    for at in range(first, end, step):
        trace, failed = dice.bytes(16), dice.random() < 0.05
        whole = int(dice.gamma(2.0, 40) * 1_000_000) + 5_000_000
        ids = [dice.bytes(8) for _ in range(6)]
        album = int(dice.integers(10, 99))
        tree = (  # service, name, kind, parent, begins and ends as a share of the whole
            ("photos-web", "GET /albums/{id}", Span.SPAN_KIND_SERVER, None, 0.0, 1.0),
            ("photos-web", "GET", Span.SPAN_KIND_CLIENT, 0, 0.05, 0.93),
            ("photos-api", "GET /api/albums/{id}", Span.SPAN_KIND_SERVER, 1, 0.08, 0.9),
            ("photos-api", "authorize", Span.SPAN_KIND_INTERNAL, 2, 0.1, 0.16),
            ("photos-db", "SELECT photo", Span.SPAN_KIND_SERVER, 2, 0.2, 0.7),
            ("photos-api", "render thumbnails", Span.SPAN_KIND_INTERNAL, 2, 0.6, 0.88),
        )
        for number, (service, name, kind, parent, begins, ends) in enumerate(tree):
            span = scopes[service].spans.add(
                trace_id=trace,
                span_id=ids[number],
                parent_span_id=b"" if parent is None else ids[parent],
                name=name,
                kind=kind,
                start_time_unix_nano=at + int(whole * begins),
                end_time_unix_nano=at + int(whole * ends),
            )
            if kind == Span.SPAN_KIND_SERVER and service != "photos-db":
                set_attributes(span.attributes, {"http.request.method": "GET", "url.path": f"/albums/{album}"})
            if service == "photos-db":
                set_attributes(span.attributes, {"db.system.name": "postgresql", "db.collection.name": "photo"})
            if failed and number in (0, 1, 2, 4):
                span.status.code = Status.STATUS_CODE_ERROR
                if service == "photos-db":
                    span.status.message = "canceling statement due to statement timeout"
        record = logged.log_records.add(
            time_unix_nano=at + int(whole * 0.7),
            trace_id=trace,
            span_id=ids[2],
            severity_text="INFO",
            severity_number=9,
        )
        record.body.string_value = f"album {album} has {int(dice.integers(1, 400))} photos"
        if failed:
            record.severity_number, record.severity_text = SeverityNumber.SEVERITY_NUMBER_ERROR, "ERROR"
            record.body.string_value = f"album {album} cannot be read: statement timeout"
    return Batch.of(Signal.TRACES, spans.SerializeToString()), Batch.of(Signal.LOGS, lines.SerializeToString())
