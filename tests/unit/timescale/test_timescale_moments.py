"""Requests of one moment that fit a template have ways of their own. The rows must be those that all others make."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from exporters.timescale import frames, metrics, moments
from exporters.timescale.copy import Rows
from exporters.timescale.dimensions import Dimensions
from exporters.timescale.metrics import MetricsEncoder
from exporters.timescale.points import sample_rows
from exporters.timescale.rejections import Acceptance, Rejections
from exporters.timescale.sets import Sets
from gateway.component import Signal
from gateway.otlp.bounds import Budget
from tests.support.otlp_orders import ORDERS, Order, written
from tests.support.stores import settings
from tests.support.telemetry import now

NOW = now()
WINDOW = Acceptance(settings(accept={"past": "40d"})).window(Signal.METRICS, NOW)
HOUR = 3_600_000_000

DOUBLES = [0.0, -0.0, 1.5, float("nan"), float("inf"), float("-inf"), 5e-324, 1.7976931348623157e308]
INTEGERS = [0, -1, 2**53, -(2**53), 7]
LARGE = [2**53 + 1, -(2**63), 2**63 - 1]


class Client:
    """Sends the same series again and again: gauges, integers, counters with starts of two processes."""

    def __init__(
        self, order: Order, gauges: int, integers: int, counters: int, seed: int, *, histogram: bool = False
    ) -> None:
        self._order: Order = order
        self._numbers = gauges, integers, counters
        self._histogram = histogram
        self.chance = random.Random(seed)

    def request(self, **odd: bool) -> bytes:
        """Return the next request, the odd ones of which are not of one moment, or hold what has no room in a frame."""
        chance, request = self.chance, ExportMetricsServiceRequest()
        resource = request.resource_metrics.add()
        resource.resource.attributes.add(key="host.name").value.string_value = "nas"
        scope = resource.scope_metrics.add()
        load, count, total = (scope.metrics.add(name=name) for name in ("load", "count", "total"))
        total.sum.is_monotonic, total.sum.aggregation_temporality = True, 2
        time = NOW - chance.randrange(10**12)
        starts = [NOW - 10**13 - chance.randrange(10**9)] * 2
        if odd.get("starts"):
            starts[1] += 1
        gauges, integers, counters = self._numbers
        points = [load.gauge.data_points.add(as_double=chance.choice(DOUBLES)) for _ in range(gauges)]
        points += [count.gauge.data_points.add(as_int=chance.choice(INTEGERS)) for _ in range(integers)]
        for number in range(counters):
            points.append(total.sum.data_points.add(as_int=number, start_time_unix_nano=starts[number % 2]))
        for number, point in enumerate(points):
            point.time_unix_nano = time
            point.attributes.add(key="number").value.int_value = number
        if odd.get("times"):
            points[-1].time_unix_nano += 1
        if odd.get("old"):
            for point in points:
                point.time_unix_nano = 1
        if odd.get("large") and integers:
            points[gauges].as_int = chance.choice(LARGE)
        if odd.get("no_start") and counters:
            points[-1].start_time_unix_nano = 0
        if self._histogram:
            seconds = scope.metrics.add(name="seconds").histogram
            seconds.data_points.add(time_unix_nano=time, count=3, bucket_counts=[1, 2], explicit_bounds=[0.5])
        return written(request, self._order)


class Encoder:
    """Encodes requests one after the other, with the quick way or without."""

    def __init__(self, *, quick: bool) -> None:
        self._quick = quick
        self.dimensions = Dimensions(10_000)
        self._sets = Sets(self.dimensions, 100)

    def rows(self, payload: bytes) -> tuple[object, ...]:
        """Return all that comes of a request."""
        if not self._quick:
            for template in self.dimensions.templates.all():
                template.moment, template._mask = None, 0
        rows, rejections = Rows(HOUR), Rejections(Signal.METRICS)
        budget = Budget(len(payload))
        list(MetricsEncoder(self.dimensions, self._sets, WINDOW, rows, rejections, budget).encode(payload))
        samples = [chunk for points in rows.points for chunk in sample_rows(points)]
        return rows.chunks, samples, rows.count, rows.minutes, rows.intervals, rejections.outcome(), budget._left


def known_before(client: Client, odd: dict[str, bool]) -> tuple[Encoder, bytes, tuple[object, ...]]:
    """Return an encoder that knows a client's requests, one of them, and what comes of it."""
    encoder = Encoder(quick=True)
    for _ in range(4):
        encoder.rows(client.request())
    request = client.request(**odd)
    return encoder, request, encoder.rows(request)


ODDITIES = st.lists(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("starts", "times", "old", "large", "no_start"), st.booleans())),
    max_size=6,
)


@given(
    order=st.sampled_from([*ORDERS]),
    numbers=st.tuples(st.integers(0, 20), st.integers(0, 5), st.integers(0, 12)).filter(any),
    seed=st.integers(0, 10**6),
    odd=ODDITIES,
)
def test_a_moment_is_written_as_arrays_are(
    order: Order, numbers: tuple[int, int, int], seed: int, odd: list[dict[str, bool]]
) -> None:
    client = Client(order, *numbers, seed)
    requests = [client.request() for _ in range(4)] + [client.request(**each) for each in odd]
    quick, plain = Encoder(quick=True), Encoder(quick=False)
    for request in requests:
        assert quick.rows(request) == plain.rows(request)


@given(
    order=st.sampled_from([*ORDERS]),
    numbers=st.tuples(st.integers(0, 150), st.integers(0, 20), st.integers(0, 150)).filter(lambda its: sum(its) > 2),
    histogram=st.booleans(),
    seed=st.integers(0, 10**6),
    odd=ODDITIES,
)
def test_a_large_moment_is_written_as_any_other_points_are(
    order: Order, numbers: tuple[int, int, int], histogram: bool, seed: int, odd: list[dict[str, bool]]
) -> None:
    client = Client(order, *numbers, seed, histogram=histogram)
    requests = [client.request() for _ in range(4)] + [client.request(**each) for each in odd]
    quick, plain = Encoder(quick=True), Encoder(quick=False)
    for request in requests:
        assert quick.rows(request) == plain.rows(request)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("odd", [{}, {"starts": True}, {"large": True}])
@pytest.mark.parametrize("numbers", [(40, 5, 40), (5, 2, 4)])
def test_how_a_large_moment_is_cut_is_asked_once(
    order: Order, odd: dict[str, bool], numbers: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails the test above proves nothing: it would compare the common way with itself."""
    encoder, request, expected = known_before(Client(order, *numbers, 1, histogram=True), odd)
    monkeypatch.setattr(metrics, "frames_of", None)
    monkeypatch.setattr(Sets, "composition", None)
    assert encoder.rows(request) == expected
    assert expected[2] == sum(numbers) + 1


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("odd", [{}, {"starts": True}])
def test_no_array_is_made_of_a_moment(order: Order, odd: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails the test above proves nothing: it would compare arrays with arrays."""
    encoder, request, expected = known_before(Client(order, 5, 2, 4, 1), odd)
    monkeypatch.setattr(metrics, "frames_of", None)
    monkeypatch.setattr(frames, "np", None)
    monkeypatch.setattr(moments, "np", None)
    assert encoder.rows(request) == expected
    assert expected[2] == 11


def test_the_memory_of_a_moment_is_counted() -> None:
    """What templates may take in all is bounded, so each must say what it takes."""
    client, encoder = Client("go", 10, 0, 0, 1), Encoder(quick=True)
    for _ in range(3):
        payload = client.request()
        encoder.rows(payload)
    (template,) = encoder.dimensions.templates.all()
    assert template.moment is not None
    assert template.cost > 3 * len(payload) + 10 * 300
