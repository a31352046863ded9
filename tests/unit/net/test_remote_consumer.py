"""An emitter is given the pipeline or an endpoint elsewhere, and is told the same by both."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.component import (
    Batch,
    DeliveryError,
    MalformedPayloadError,
    NoPipelineError,
    Outcome,
    OverloadedError,
    RefusedError,
    Signal,
    UnavailableError,
)
from gateway.component.declaration import Context
from gateway.net.destination import DestinationError, EmitterSettings
from gateway.net.remote import RemoteConsumer, close, consumer_of, elsewhere, place_of
from receivers.otlp.config import OtlpReceiverConfig
from receivers.otlp.factory import create
from tests.support.consumers import Collecting

HERE = Collecting()
PROTOCOLS = ("grpc", "http/protobuf")
LOGS = [Signal.LOGS]


def settings(**given: object) -> EmitterSettings:
    return EmitterSettings.model_validate(given)


@asynccontextmanager
async def remote(consumer: Collecting, protocol: str) -> AsyncIterator[RemoteConsumer]:
    """A consumer, as it is reached over a protocol."""
    short = protocol.partition("/")[0]
    config = OtlpReceiverConfig.model_validate({"protocols": {short: {"endpoint": "127.0.0.1:0"}}})
    receiver = create("otlp", config, consumer, Context())
    await receiver.start()
    away = elsewhere(settings(endpoint=f"http://{receiver.endpoints[short]}", protocol=protocol), LOGS)
    try:
        yield away
    finally:
        await close(away)
        await receiver.stop(0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_what_becomes_of_a_batch_is_told(protocol: str) -> None:
    consumer = Collecting(lambda _: Outcome(2, "too old"))
    async with remote(consumer, protocol) as away:
        assert await away.accept(Batch.of(Signal.LOGS, b"")) == Outcome(2, "too old")
    assert [batch.signal for batch in consumer.batches] == [Signal.LOGS]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("there", "here"),
    [
        (UnavailableError("the store is away", 7), UnavailableError),
        (OverloadedError("too much at once", 7), OverloadedError),
        (RefusedError("a constraint"), RefusedError),
        (MalformedPayloadError("no request"), RefusedError),
    ],
)
async def test_an_error_is_of_the_same_kind(protocol: str, there: DeliveryError, here: type[DeliveryError]) -> None:
    def answer(_: Batch) -> Outcome:
        raise there

    async with remote(Collecting(answer), protocol) as away:
        with pytest.raises(here, match=str(there)) as caught:
            await away.accept(Batch.of(Signal.LOGS, b""))
    assert type(caught.value) is here
    assert getattr(caught.value, "retry_after", None) == getattr(there, "retry_after", None)


def test_without_an_endpoint_it_is_the_hub_itself() -> None:
    assert consumer_of(settings(protocol="http/protobuf", timeout="3s"), LOGS, HERE) is HERE
    assert place_of(HERE, Signal.LOGS) == "this hub"


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"])
def test_settings_or_the_environment_name_an_endpoint(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    assert place_of(consumer_of(settings(endpoint="http://a:1"), LOGS, HERE), Signal.LOGS) == "http://a:1"
    monkeypatch.setenv(variable, "http://b:2")
    assert place_of(consumer_of(settings(), LOGS, HERE), Signal.LOGS) == "http://b:2"


async def test_only_signals_that_an_endpoint_is_named_for_go_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b:2")
    here = Collecting()
    consumer = consumer_of(settings(), [Signal.LOGS, Signal.TRACES], here)
    assert [place_of(consumer, signal) for signal in (Signal.LOGS, Signal.TRACES)] == ["this hub", "http://b:2"]
    await consumer.accept(Batch.of(Signal.LOGS, b"mine"))
    assert [batch.payload for batch in here.batches] == [b"mine"]


async def test_a_signal_that_goes_nowhere_is_said() -> None:
    with pytest.raises(NoPipelineError):
        await elsewhere(settings(), LOGS).accept(Batch.of(Signal.METRICS, b""))


def test_outside_of_a_hub_it_is_this_machines_standard_port() -> None:
    assert place_of(elsewhere(settings(), LOGS), Signal.LOGS) == "http://127.0.0.1:4317"


def test_what_cannot_be_used_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(missing))
    with pytest.raises(OSError, match=str(missing)):
        consumer_of(settings(endpoint="https://a:1"), LOGS, HERE)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon")
    with pytest.raises(DestinationError, match="carrier-pigeon"):
        consumer_of(settings(endpoint="http://a:1"), LOGS, HERE)
