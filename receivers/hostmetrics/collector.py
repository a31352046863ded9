"""One collection: every sensor is read, and what it yields becomes OTLP metrics.

The metrics are made as the SDK's own data model (`MetricsData`) and given to the SDK's exporter, without the SDK's
meters between. A meter stamps a counter with the time at which the process started, while these count since the machine
did; with the exact start time a reader sees the whole history, also of a process that runs once and ends. It also gives
all points of a collection one time, and keeps nothing between collections.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import psutil
import structlog
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from gateway.base.version import VERSION
from receivers.hostmetrics.conventions import SCHEMA_URL, Instrument, Kind
from receivers.hostmetrics.sensor import Entity, Failed, Observation, Sensor

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SCOPE = InstrumentationScope("obs_hub.hostmetrics", VERSION, SCHEMA_URL)
_NANOSECONDS = 10**9


class Collector:
    """Reads sensors. A sensor that fails is logged when it begins to fail and when it no longer does.

    Belongs to one thread.
    """

    def __init__(self, sensors: Iterable[Sensor], resource: Resource) -> None:
        self._sensors = tuple(sensors)
        self._resource = resource
        # Read once: were the clock set later, every counter would seem to have started anew.
        self._boot_time = round(psutil.boot_time() * _NANOSECONDS)
        self._failing: dict[str, Exception] = {}

    def collect(self) -> MetricsData:
        """Read every sensor, now. Never raises for a sensor."""
        now = time.time_ns()
        failing: dict[str, Exception] = {}
        found: dict[Entity | None, dict[Instrument, list[Observation]]] = {None: {}}
        for observation in self._read(failing):
            its_own = found.setdefault(observation.entity, {})
            its_own.setdefault(observation.instrument, []).append(observation)
        self._report(failing)
        return MetricsData([self._of(entity, by_instrument, now) for entity, by_instrument in found.items()])

    def _of(
        self, entity: Entity | None, by_instrument: Mapping[Instrument, Sequence[Observation]], now: int
    ) -> ResourceMetrics:
        """Make the metrics of the machine, or of one entity on it."""
        resource, started = self._resource, self._boot_time
        if entity is not None:
            resource = Resource({**resource.attributes, **entity.attributes}, SCHEMA_URL)
            started = entity.started
        metrics = [self._metric(instrument, each, started, now) for instrument, each in by_instrument.items()]
        return ResourceMetrics(resource, [ScopeMetrics(_SCOPE, metrics, SCHEMA_URL)], SCHEMA_URL)

    def _read(self, failing: dict[str, Exception]) -> Iterator[Observation]:
        for sensor in self._sensors:
            try:
                for observation in sensor.read():
                    if isinstance(observation, Failed):
                        failing[observation.sensor] = observation.error
                    else:
                        yield observation
            except Exception as error:  # whatever it is, the other sensors go on
                failing[sensor.name] = error

    def _report(self, failing: dict[str, Exception]) -> None:
        for name in failing.keys() - self._failing.keys():
            error = failing[name]
            _log.warning(
                "a sensor cannot be read; the others go on, and this one is tried again at every collection",
                sensor=name,
                reason=f"{type(error).__name__}: {error}",
            )
        for name in self._failing.keys() - failing.keys():
            _log.info("a sensor can be read again", sensor=name)
        self._failing = failing

    @staticmethod
    def _metric(instrument: Instrument, observations: Sequence[Observation], started: int, now: int) -> Metric:
        counts = instrument.kind is not Kind.GAUGE
        # A clock set back to before the machine was started must not make a point end before it began.
        points = [
            NumberDataPoint(each.attributes, min(each.started or started, now) if counts else 0, now, each.value)
            for each in observations
        ]
        data = (
            Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=instrument.kind is Kind.COUNTER)
            if counts
            else Gauge(points)
        )
        return Metric(instrument.name, instrument.description, instrument.unit, data)
