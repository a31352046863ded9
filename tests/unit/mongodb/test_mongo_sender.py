"""What of a batch is refused for good is found, whatever way it is refused; a destination that is away is not blamed
on the documents."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from gateway.base.settings import RetrySettings
from gateway.component import (
    Batch,
    MalformedPayloadError,
    NoPipelineError,
    Outcome,
    OverloadedError,
    RefusedError,
    Signal,
    UnavailableError,
)
from gateway.component.documents import DestinationError
from receivers.mongodb.batches import Entry
from receivers.mongodb.event import Event
from receivers.mongodb.records import to_record
from receivers.mongodb.sender import Sender

QUICK = RetrySettings.model_validate({"initial_interval": "1ms", "max_interval": "2ms"})


class Client:
    """Answers a request by the names of its events."""

    def __init__(self, answer: Callable[[list[str]], Outcome]) -> None:
        self._answer = answer
        self.requests: list[list[str]] = []

    async def accept(self, batch: Batch) -> Outcome:
        assert batch.signal is Signal.LOGS
        message = ExportLogsServiceRequest.FromString(batch.payload)
        names = [r.event_name for owner in message.resource_logs for r in owner.scope_logs[0].log_records]
        self.requests.append(names)
        return self._answer(names)


def entries(*names: str) -> list[Entry]:
    return [Entry(name, *to_record(Event(name, 10**18), name)) for name in names]


async def sent(client: Client, *names: str, patience: float = 60) -> dict[str, str | None]:
    marks = await Sender("reading", client, QUICK, patience).send(entries(*names))
    assert len(marks) == len(names)
    return {mark.id: mark.reason for mark in marks}


async def test_the_one_that_is_refused_is_found() -> None:
    def answer(names: list[str]) -> Outcome:
        if "bad" in names:
            raise RefusedError("no such thing")
        return Outcome()

    client = Client(answer)
    names = [f"good-{number}" for number in range(20)]
    found = await sent(client, *names[:13], "bad", *names[13:])
    assert found == {**dict.fromkeys(names), "bad": "no such thing"}
    assert len(client.requests) < 15


async def test_those_that_are_rejected_are_found() -> None:
    def answer(names: list[str]) -> Outcome:
        bad = sum(name.startswith("old") for name in names)
        return Outcome(bad, f"{bad} log records rejected: {bad} older than 30d" if bad else "")

    client = Client(answer)
    found = await sent(client, "a", "old-1", "b", "old-2", "c")
    assert {name for name, reason in found.items() if reason} == {"old-1", "old-2"}
    assert found["old-1"] == "1 log records rejected: 1 older than 30d"
    client.requests.clear()
    assert all((await sent(client, "old-1", "old-2", "old-3")).values())
    assert len(client.requests) == 1, "when all are rejected there is nothing to look for"


async def test_a_destination_that_refuses_everything_is_not_the_documents_fault() -> None:
    def answer(names: list[str]) -> Outcome:
        raise RefusedError("415 Unsupported Media Type")

    with pytest.raises(DestinationError, match="does not take OTLP, not even an empty request: 415"):
        await sent(Client(answer), "a", "b")


async def test_one_document_that_is_refused_alone_is_its_own_fault() -> None:
    def answer(names: list[str]) -> Outcome:
        if names:
            raise RefusedError("too large")
        return Outcome()

    assert await sent(Client(answer), "a") == {"a": "too large"}


async def test_a_hub_that_takes_no_logs_is_not_the_documents_fault() -> None:
    def answer(names: list[str]) -> Outcome:
        raise NoPipelineError("logs")

    with pytest.raises(DestinationError, match=r"no pipeline takes logs \(setting service\.pipelines\.logs\)"):
        await sent(Client(answer), "a", "b")


async def test_one_document_that_cannot_be_read_is_found() -> None:
    """What the pipeline says in this process, it would say as INVALID_ARGUMENT over the wire."""

    def answer(names: list[str]) -> Outcome:
        if "bad" in names:
            raise MalformedPayloadError("no UTF-8")
        return Outcome()

    assert await sent(Client(answer), "a", "bad", "b") == {"a": None, "bad": "no UTF-8", "b": None}


async def test_a_destination_that_comes_back_is_waited_for() -> None:
    answers = [UnavailableError("away", 0), OverloadedError("full", 0), None]

    def answer(names: list[str]) -> Outcome:
        error = answers.pop(0)
        if error is not None:
            raise error
        return Outcome()

    assert await sent(Client(answer), "a", "b") == {"a": None, "b": None}


async def test_patience_ends() -> None:
    def answer(names: list[str]) -> Outcome:
        raise UnavailableError("connection refused", 0.001)

    with pytest.raises(DestinationError, match="the gateway is away: connection refused"):
        await sent(Client(answer), "a", patience=0.05)


async def test_a_warning_is_no_refusal() -> None:
    client = Client(lambda names: Outcome(0, "a dead letter"))
    assert await sent(client, "a", "b") == {"a": None, "b": None}
    assert len(client.requests) == 1
