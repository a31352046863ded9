"""Observations become metrics, and one failing sensor concerns no other."""

import time
from collections.abc import Iterator

import psutil
import pytest
from opentelemetry.sdk.metrics.export import AggregationTemporality, Gauge, Metric, MetricsData, Sum
from opentelemetry.sdk.resources import Resource

from receivers.hostmetrics.collector import Collector
from receivers.hostmetrics.conventions import CPU_UTILIZATION, DISK_IO, MEMORY_USAGE, UPTIME, Instrument
from receivers.hostmetrics.sensor import Failed, Observation, Reading, Sensor
from tests.support.logged import Logged

RESOURCE = Resource({"host.name": "nas"})


def metrics(data: MetricsData) -> dict[str, Metric]:
    (resource_metrics,) = data.resource_metrics
    assert resource_metrics.resource is RESOURCE
    (scope_metrics,) = resource_metrics.scope_metrics
    return {metric.name: metric for metric in scope_metrics.metrics}


def steady(instrument: Instrument = UPTIME) -> Sensor:
    return Sensor("steady", lambda: [Observation(instrument, 1)])


def start_times(data: MetricsData) -> dict[str, int]:
    return {
        name: point.start_time_unix_nano
        for name, metric in metrics(data).items()
        if isinstance(metric.data, Sum)
        for point in metric.data.data_points
    }


def test_the_kind_decides_what_becomes_of_an_observation() -> None:
    sensor = Sensor(
        "all", lambda: [Observation(DISK_IO, 1), Observation(MEMORY_USAGE, 2), Observation(CPU_UTILIZATION, 0.5)]
    )
    found = metrics(Collector([sensor], RESOURCE).collect())
    counter, up_down, gauge = (found[each.name].data for each in (DISK_IO, MEMORY_USAGE, CPU_UTILIZATION))
    assert isinstance(counter, Sum)
    assert isinstance(up_down, Sum)
    assert isinstance(gauge, Gauge)
    assert (counter.is_monotonic, up_down.is_monotonic) == (True, False)
    assert counter.aggregation_temporality == up_down.aggregation_temporality == AggregationTemporality.CUMULATIVE
    assert (found[DISK_IO.name].unit, found[DISK_IO.name].description) == (DISK_IO.unit, DISK_IO.description)


def test_points_of_one_metric_are_together_whatever_sensor_they_come_from() -> None:
    two = [Sensor(each, lambda each=each: [Observation(DISK_IO, 1, {"system.device": each})]) for each in ("a", "b")]
    (metric,) = metrics(Collector(two, RESOURCE).collect()).values()
    assert [dict(point.attributes or {}) for point in metric.data.data_points] == [
        {"system.device": "a"},
        {"system.device": "b"},
    ]


def test_all_points_have_one_time_and_counters_start_when_the_machine_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "boot_time", lambda: 1000.0)
    collector = Collector([steady(DISK_IO), steady(MEMORY_USAGE), steady(UPTIME)], RESOURCE)
    # As when the clock is set: what has once been said of the start stays.
    monkeypatch.setattr(psutil, "boot_time", lambda: 2000.0)
    before = time.time_ns()
    data = collector.collect()
    assert start_times(data) == {DISK_IO.name: 1000 * 10**9, MEMORY_USAGE.name: 1000 * 10**9}
    (moment,) = {point.time_unix_nano for metric in metrics(data).values() for point in metric.data.data_points}
    assert before <= moment <= time.time_ns()


def test_a_point_never_starts_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "boot_time", lambda: 2000.0)
    monkeypatch.setattr(time, "time_ns", lambda: 1500 * 10**9)
    assert start_times(Collector([steady(DISK_IO)], RESOURCE).collect()) == {DISK_IO.name: 1500 * 10**9}


class Moody:
    """A sensor that fails when told to, after its first observation."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def read(self) -> Iterator[Observation]:
        yield Observation(DISK_IO, 1)
        if self.error:
            raise self.error


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), psutil.AccessDenied(1), KeyError("x")])
def test_a_failure_is_logged_once_with_its_reason_and_so_is_its_end(error: Exception, logged: Logged) -> None:
    moody = Moody()
    collector = Collector([Sensor("moody", moody.read), steady()], RESOURCE)
    collector.collect()
    assert logged.entries == []

    moody.error = error
    for _ in range(3):
        found = metrics(collector.collect())
        assert found.keys() == {DISK_IO.name, UPTIME.name}, "what was read, and the sensors behind it, are there"
    (line,) = logged.of("a sensor cannot be read")
    assert (line["sensor"], line["reason"]) == ("moody", f"{type(error).__name__}: {error}")

    moody.error = None
    collector.collect()
    collector.collect()
    assert logged.entries[1:] == [{"event": "a sensor can be read again", "sensor": "moody", "log_level": "info"}]

    moody.error = error
    collector.collect()
    assert len(logged.entries) == 3, "a new failure is news again"


def test_parts_of_a_sensor_fail_by_themselves(logged: Logged) -> None:
    broken = ["filesystem /a"]

    def read() -> Reading:
        for name in broken:
            yield Failed(name, OSError(5, "Input/output error"))
        yield Observation(DISK_IO, 1)

    collector = Collector([Sensor("filesystem", read)], RESOURCE)
    collector.collect()
    broken.append("filesystem /b")
    assert metrics(collector.collect()).keys() == {DISK_IO.name}
    collector.collect()
    assert [entry["sensor"] for entry in logged.of("a sensor cannot be read")] == ["filesystem /a", "filesystem /b"]


def test_nothing_to_read_is_nothing_to_report() -> None:
    assert metrics(Collector([], RESOURCE).collect()) == {}
