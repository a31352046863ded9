"""gRPC server reflection, asked by gRPC's own library as grpcurl and other tools ask it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from gateway.component import Receiver, Signal
from gateway.component.declaration import Context
from receivers.otlp.config import OtlpReceiverConfig
from receivers.otlp.factory import create
from receivers.otlp.grpc_reflection import VERSIONS, Reflection
from receivers.otlp.stream_limit import StreamLimit
from tests.integration.test_otlp_receiver import FakePipeline
from tests.support.http2 import END_STREAM, HEADERS, connected, message
from tests.support.waiting import PATIENCE

LOGS_SERVICE = "opentelemetry.proto.collector.logs.v1.LogsService"
TRACE_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def text(number: int, value: str) -> bytes:
    """A string field of a message."""
    return varint(number << 3 | 2) + varint(len(value)) + value.encode()


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message: strings, messages and numbers."""
    at = 0

    def number() -> int:
        nonlocal at
        value, shift = 0, 0
        while True:
            value, shift, at = value | (message[at] & 127) << shift, shift + 7, at + 1
            if not message[at - 1] & 128:
                return value

    while at < len(message):
        tag = number()
        size = number()
        if tag & 7 == 2:
            yield tag >> 3, message[at : at + size]
            at += size
        else:
            yield tag >> 3, size


LIST, BY_FILE, BY_SYMBOL, BY_EXTENSION, EXTENSIONS_OF = 7, 3, 4, 5, 6
FILES, EXTENSION_NUMBERS, SERVICES, ERROR = 4, 5, 6, 7


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = create(
        "otlp",
        OtlpReceiverConfig.model_validate({"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}}),
        FakePipeline(),
        Context(signals=frozenset({Signal.LOGS, Signal.METRICS})),
    )
    await receiver.start()
    yield receiver
    await receiver.stop(0)


@pytest.fixture
async def channel(receiver: Receiver) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(receiver.endpoints["grpc"]) as channel:
        yield channel


def info(channel: grpc.aio.Channel, version: str = VERSIONS[0]) -> Any:
    return channel.stream_stream(f"/{version}.ServerReflection/ServerReflectionInfo")()


async def ask(channel: grpc.aio.Channel, *questions: bytes, version: str = VERSIONS[0]) -> list[dict[int, Any]]:
    """Ask one after the other, in one call; return the fields of each answer."""
    call = info(channel, version)
    answers = []
    for question in questions:
        await call.write(question)
        answers.append(dict(fields(await call.read())))
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK
    return answers


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_tool_can_call_what_it_learns_of(channel: grpc.aio.Channel, version: str) -> None:
    listed, found = await ask(channel, text(LIST, ""), text(BY_SYMBOL, LOGS_SERVICE), version=version)
    assert [dict(fields(each))[1].decode() for _, each in fields(listed[SERVICES])] == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        LOGS_SERVICE,
        "opentelemetry.proto.collector.metrics.v1.MetricsService",
    ]
    pool = descriptor_pool.DescriptorPool()
    files = [descriptor_pb2.FileDescriptorProto.FromString(each) for _, each in fields(found[FILES])]
    assert files[0].name == "opentelemetry/proto/collector/logs/v1/logs_service.proto"
    for file in reversed(files):  # what a file imports comes after it
        pool.Add(file)
    method = pool.FindServiceByName(LOGS_SERVICE).methods_by_name["Export"]
    request = message_factory.GetMessageClass(method.input_type)()
    request.resource_logs.add().scope_logs.add().log_records.add().body.string_value = "learnt"
    await channel.unary_unary(f"/{LOGS_SERVICE}/{method.name}")(request.SerializeToString())


async def test_every_service_that_is_listed_can_be_described(channel: grpc.aio.Channel) -> None:
    (listed,) = await ask(channel, text(LIST, ""))
    names = [dict(fields(each))[1].decode() for _, each in fields(listed[SERVICES])]
    for name, answer in zip(names, await ask(channel, *(text(BY_SYMBOL, name) for name in names)), strict=True):
        files = [descriptor_pb2.FileDescriptorProto.FromString(each) for _, each in fields(answer[FILES])]
        assert name in [f"{files[0].package}.{service.name}" for service in files[0].service]
        (again,) = await ask(channel, text(BY_FILE, files[0].name))
        assert again[FILES] == answer[FILES]


@pytest.mark.parametrize(
    ("question", "code"),
    [
        (text(BY_SYMBOL, "no.such.Thing"), 5),
        (text(BY_SYMBOL, TRACE_SERVICE), 5),  # which has no pipeline
        (text(BY_SYMBOL, "google.rpc.Status"), 5),  # which is known here and not served
        (text(BY_FILE, "nope.proto"), 5),
        (text(BY_EXTENSION, "\x0a\x01a"), 5),
        (text(EXTENSIONS_OF, "no.such.Thing"), 5),
        (b"", 3),
    ],
)
async def test_what_is_not_there_is_an_answer_and_not_the_end(
    channel: grpc.aio.Channel, question: bytes, code: int
) -> None:
    refused, listed = await ask(channel, question, text(LIST, ""))
    error = dict(fields(refused[ERROR]))
    assert error[1] == code
    assert error[2]
    assert SERVICES in listed


async def test_messages_have_no_extensions(channel: grpc.aio.Channel) -> None:
    name = "opentelemetry.proto.logs.v1.LogRecord"
    (answer,) = await ask(channel, text(EXTENSIONS_OF, name))
    assert dict(fields(answer[EXTENSION_NUMBERS])) == {1: name.encode()}


@pytest.mark.parametrize(
    ("question", "code"),
    [
        (b"\xff", grpc.StatusCode.INVALID_ARGUMENT),
        (text(BY_SYMBOL, "a" * 5000), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
async def test_what_is_no_question_ends_the_call(
    channel: grpc.aio.Channel, question: bytes, code: grpc.StatusCode
) -> None:
    call = info(channel)
    await call.write(question)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is code


async def test_conversations_do_not_delay_the_end(receiver: Receiver, channel: grpc.aio.Channel) -> None:
    call = info(channel)
    await call.write(text(LIST, ""))
    await call.read()
    stopping = asyncio.create_task(receiver.stop(grace=3600))
    async with asyncio.timeout(PATIENCE):
        assert await call.read() is grpc.aio.EOF
        await stopping


async def test_conversations_of_one_connection_are_bounded(channel: grpc.aio.Channel) -> None:
    calls = [info(channel) for _ in range(8)]
    for call in calls:
        await call.write(text(LIST, ""))
        await call.read()
    with pytest.raises(grpc.aio.AioRpcError, match="too many clients ask") as caught:
        await info(channel).read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for call in calls:
        await call.done_writing()
        await call.read()
    await ask(channel, text(LIST, ""))


async def test_questions_that_wait_for_no_answer_are_bounded(receiver: Receiver) -> None:
    """A few bytes ask for thousands: not more of them are worked off at once than a tool may have use for."""
    path = f"/{VERSIONS[0]}.ServerReflection/ServerReflectionInfo"
    async with connected(receiver.endpoints["grpc"]) as client:
        content = message(text(BY_SYMBOL, LOGS_SERVICE), compressed=False)
        client.call(1, content * 100, end=False, **{":path": path})
        await client.until(HEADERS, 1, END_STREAM)
        assert client.headers[1]["grpc-status"] == "8"
        client.call(3, content, **{":path": path})
        status, _, answer = await client.answer(3)
        assert (status, LOGS_SERVICE.encode() in answer) == ("0", True)


def test_seats_are_given_back_once() -> None:
    seats = StreamLimit(2)
    one, two = object(), object()
    leave = seats.take(one)
    assert leave is not None
    assert seats.take(two) is not None
    assert seats.take(object()) is None
    leave()
    leave()
    assert seats.take(one) is not None
    assert seats.take(one) is None


def test_the_service_describes_itself() -> None:
    reflection = Reflection()
    for version in VERSIONS:
        question = text(BY_SYMBOL, f"{version}.ServerReflection.ServerReflectionInfo")
        (file,) = [each for _, each in fields(dict(fields(reflection.answer(question)))[FILES])]
        assert descriptor_pb2.FileDescriptorProto.FromString(file).service[0].method[0].client_streaming
