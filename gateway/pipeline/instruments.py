"""What the pipeline reports about itself, as OpenTelemetry instruments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from gateway.component.batch import Signal


class Counter:
    """Adds up records, and is read at each collection: a batch costs a few look-ups, not one way through the SDK each.

    It is for one thread, the event loop's; whoever collects may be another.
    """

    def __init__(self, meter: Meter, name: str, unit: str, description: str) -> None:
        self._totals: dict[frozenset[tuple[str, str]], int] = {}
        meter.create_observable_counter(name, [self._read], unit, description)

    def add(self, amount: int, attributes: Mapping[str, str]) -> None:
        """Count more of what has these attributes."""
        key = frozenset(attributes.items())
        self._totals[key] = self._totals.get(key, 0) + amount

    def _read(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(total, dict(key)) for key, total in list(self._totals.items())]


class Instruments:
    """The pipeline's instruments, made from one meter.

    Names begin with ``obs_hub.``; the attribute ``signal`` is metrics, logs or traces.
    """

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.accepted = Counter(
            meter, "obs_hub.records.accepted", "{record}", "Records acknowledged: every exporter of the signal has them"
        )
        self.refused = Counter(
            meter,
            "obs_hub.records.refused",
            "{record}",
            "Records refused, by reason; those of undecodable requests not counted",
        )
        self.dropped = Counter(
            meter,
            "obs_hub.records.dropped",
            "{record}",
            "Records that a processor left out, as it is configured to, by processor and pipeline",
        )
        self.requests_refused = Counter(
            meter, "obs_hub.requests.refused", "{request}", "Requests refused as a whole, by reason"
        )
        self.connections_refused = connections_refused(meter)
        self.stored = Counter(meter, "obs_hub.records.stored", "{record}", "Records newly stored, by exporter")
        self.duplicate = Counter(
            meter,
            "obs_hub.records.duplicate",
            "{record}",
            "Records of batches that the exporter's destination already had",
        )
        self.spooled = Counter(
            meter, "obs_hub.records.spooled", "{record}", "Records that wait in the spool of an exporter, or did"
        )
        self.dead_lettered = Counter(
            meter, "obs_hub.records.dead_lettered", "{record}", "Records of batches that became dead letters"
        )
        self.commit_duration = meter.create_histogram(
            "obs_hub.commit.duration",
            "s",
            "Time one commit took",
            explicit_bucket_boundaries_advisory=[
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
            ],
        )  # fmt: skip
        self.commit_records = meter.create_histogram(
            "obs_hub.commit.records",
            "{record}",
            "Records in one commit",
            explicit_bucket_boundaries_advisory=[1, 10, 100, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000],
        )
        self.commit_batches = meter.create_histogram(
            "obs_hub.commit.batches",
            "{batch}",
            "Batches in one commit",
            explicit_bucket_boundaries_advisory=[1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000],
        )

    def refuse(self, signal: Signal, reason: str, records: int = 0) -> None:
        """Count a request refused as a whole; ``records`` is 0 when they could not be counted."""
        attributes = {"signal": signal.value, "reason": reason}
        self.requests_refused.add(1, attributes)
        if records:
            self.refused.add(records, attributes)

    def observe(
        self,
        name: str,
        unit: str,
        description: str,
        read: Callable[[], float],
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        """Report what ``read`` returns at each collection."""

        def callback(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(read(), attributes)]

        self.meter.create_observable_gauge(name, [callback], unit, description)


def connections_refused(meter: Meter) -> Callable[[str, str], None]:
    """Return what counts a connection that was not let in, by its listener and the reason. The front uses it, too."""
    counter = meter.create_counter(
        "obs_hub.connections.refused", "{connection}", "Connections closed as soon as they came, by listener and reason"
    )
    return lambda listener, reason: counter.add(1, {"listener": listener, "reason": reason})
