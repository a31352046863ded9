"""Requests that no sane sender makes: answered as OTLP says, and nothing else suffers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.timescale.exporter import TimescaleExporter
from gateway.component import Batch, DeliveryError, MalformedPayloadError, RefusedError, Signal, TooLargeError
from tests.hostile.harness import VIEWS, Gateway
from tests.hostile.payloads import ATTRIBUTES, REQUESTS, attribute_everywhere
from tests.support.databases import Database
from tests.support.otlp_strategies import REQUESTS as REQUEST_STRATEGIES
from tests.support.stores import prepare, running_pipeline, settings
from tests.support.telemetry import gauge, logs, spans


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_wherever_attributes_may_be(gateway: Gateway, name: str) -> None:
    for signal in Signal:
        gateway.attack(signal, attribute_everywhere(signal, ATTRIBUTES[name]()))
    gateway.assert_serves()


@pytest.mark.parametrize(("signal", "name"), [(signal, name) for signal, some in REQUESTS.items() for name in some])
def test_a_request(gateway: Gateway, signal: Signal, name: str) -> None:
    gateway.attack(signal, REQUESTS[signal][name]())
    gateway.assert_serves()


@pytest.fixture
def exporter() -> TimescaleExporter:
    """An exporter that only encodes."""
    return TimescaleExporter("timescale", settings(), "")


def _cut(whole: bytes) -> list[bytes]:
    return [whole[:end] for end in range(len(whole))]


def _turned(whole: bytes) -> list[bytes]:
    return [whole[:place] + bytes([whole[place] ^ 0x85]) + whole[place + 1 :] for place in range(len(whole))]


@pytest.mark.parametrize("damage", [_cut, _turned])
@pytest.mark.parametrize("signal", list(Signal))
def test_a_damaged_request(
    gateway: Gateway, exporter: TimescaleExporter, signal: Signal, damage: Callable[[bytes], list[bytes]]
) -> None:
    """Cut anywhere, or with any byte turned. All are encoded; some go all the way."""
    damaged = damage(attribute_everywhere(signal, ATTRIBUTES["NUL deep inside"]()))
    for payload in damaged:
        with contextlib.suppress(MalformedPayloadError):
            prepare(exporter, Batch.of(signal, payload))
    for payload in damaged[::23]:
        gateway.attack(signal, payload)
    gateway.assert_serves()


@given(
    data=st.data(),
    signal=st.sampled_from(Signal),
    splices=st.lists(
        st.tuples(st.integers(0, 2**16), st.integers(0, 8), st.binary(max_size=12)), min_size=1, max_size=4
    ),
)
def test_a_mutated_request_is_encoded_or_malformed(
    data: st.DataObject, signal: Signal, splices: list[tuple[int, int, bytes]]
) -> None:
    exporter = TimescaleExporter("timescale", settings(), "")
    payload = data.draw(REQUEST_STRATEGIES[signal.value]()).SerializeToString()
    for place, removed, inserted in splices:
        at = place % (len(payload) + 1)
        payload = payload[:at] + inserted + payload[at + removed :]
    with contextlib.suppress(MalformedPayloadError, TooLargeError):
        prepare(exporter, Batch.of(signal, payload))


@pytest.mark.parametrize("signal", list(Signal))
def test_a_request_of_another_signal(gateway: Gateway, signal: Signal) -> None:
    for other in Signal:
        gateway.attack(signal, attribute_everywhere(other, ATTRIBUTES["bytes"]()))
    gateway.assert_serves()


def test_every_view_can_be_read_afterwards(gateway: Gateway) -> None:
    """Runs on what the tests above have stored in this process; the fixture looks at all in the end."""
    for view in VIEWS:
        gateway.database.run(f"SELECT * FROM {view}")


async def test_good_records_in_the_same_commit_are_stored(database: Database) -> None:
    """Whatever can be encoded is committed together with good records, all at once."""
    hostile = [
        Batch.of(signal, attribute_everywhere(signal, make())) for make in ATTRIBUTES.values() for signal in Signal
    ]
    hostile += [Batch.of(signal, make()) for signal, some in REQUESTS.items() for make in some.values()]
    good = [
        batch for n in range(10) for batch in (gauge([float(n)], name=f"good {n}"), logs(f"good {n}"), spans("good"))
    ]
    step = len(hostile) // len(good)
    mixed = [
        batch for n, its_good in enumerate(good) for batch in (*hostile[n * step : (n + 1) * step], its_good)
    ] + hostile[len(good) * step :]
    # One commit of seven seconds of a processor: with a load of forty, minutes.
    async with running_pipeline(database, timeout="15m") as pipeline:
        results = await asyncio.gather(*map(pipeline.accept, mixed), return_exceptions=True)
    failed = [result for result in results if isinstance(result, BaseException)]
    assert all(isinstance(error, MalformedPayloadError | RefusedError) for error in failed), failed
    assert all(isinstance(error, DeliveryError) for error in failed)
    counts = database.run(
        "SELECT (SELECT count(*) FROM metrics WHERE name LIKE 'good %%'), (SELECT count(*) FROM logs"
        " WHERE body LIKE 'good %%'), (SELECT count(*) FROM spans WHERE name = 'good')"
    )
    assert counts == [(10, 10, 10)]
