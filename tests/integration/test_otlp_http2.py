"""gRPC as it is on the wire: what clients may send beyond what gRPC's own library for Python can."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import zlib
from collections.abc import AsyncIterator
from typing import Any

import cramjam
import pytest
import zstandard
from hpack import Encoder

from gateway.component import ACCEPTED, Batch, Outcome, OverloadedError, Receiver, Signal
from gateway.component.declaration import Context
from receivers.otlp.config import OtlpReceiverConfig
from receivers.otlp.factory import create
from tests.support.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    EXPORT,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    connected,
    frame,
    header_block,
    message,
)
from tests.support.telemetry import logs
from tests.support.waiting import PATIENCE

INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, HEADER_TABLE_SIZE = 4, 3, 1
NO_ERROR, REFUSED_STREAM = 0, 7
OK, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = "0", "3", "8", "12", "13", "14"
LIMIT = 2 * 2**20

COMPRESS = {
    "identity": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
    "snappy": lambda content: bytes(cramjam.snappy.compress(content)),  # framed, as the Collector sends it
    "lz4": lambda content: bytes(cramjam.lz4.compress(content)),
}
SMALL = logs("hello").payload
LARGE = logs(*(f"{random.Random(n).random()} hello" for n in range(20_000))).payload


class Consumer:
    """Keeps what it gets, and answers when it is told to."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.refused: list[str] = []
        self.cancelled = 0
        self.answer: Outcome | Exception = ACCEPTED
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.entered = asyncio.Event()

    async def accept(self, batch: Batch) -> Outcome:
        self.payloads.append(batch.payload)
        self.entered.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def refuse(self, signal: Signal, reason: str) -> None:
        assert signal is Signal.LOGS
        self.refused.append(reason)

    def refuse_connection(self, listener: str, reason: str) -> None:
        self.refused.append(reason)


@pytest.fixture
def consumer() -> Consumer:
    return Consumer()


@pytest.fixture
async def receiver(consumer: Consumer) -> AsyncIterator[Receiver]:
    grpc: dict[str, Any] = {"endpoint": "127.0.0.1:0", "max_recv_msg_size": LIMIT, "max_concurrent_streams": 10}
    receiver = create("otlp", OtlpReceiverConfig.model_validate({"protocols": {"grpc": grpc}}), consumer, Context())
    await receiver.start()
    yield receiver
    await receiver.stop(0)


# Messages


@pytest.mark.parametrize("payload", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("encoding", COMPRESS)
async def test_messages_may_be_compressed(
    receiver: Receiver, consumer: Consumer, encoding: str, payload: bytes
) -> None:
    content = message(COMPRESS[encoding](payload), compressed=encoding != "identity")
    async with connected(receiver.endpoints["grpc"]) as client:
        client.call(1, content, grpc_encoding=encoding)
        assert await client.answer(1) == (OK, "", message(b"", compressed=False))
    assert consumer.payloads == [payload]


async def test_a_call_may_name_a_compression_and_not_use_it(receiver: Receiver, consumer: Consumer) -> None:
    async with connected(receiver.endpoints["grpc"]) as client:
        client.call(1, message(SMALL, compressed=False), grpc_encoding="zstd")
        assert (await client.answer(1))[0] == OK
    assert consumer.payloads == [SMALL]


async def test_frames_need_not_be_cut_where_messages_are(receiver: Receiver, consumer: Consumer) -> None:
    content = message(SMALL, compressed=False)
    async with connected(receiver.endpoints["grpc"]) as client:
        client.send(frame(HEADERS, END_HEADERS, 1, header_block(EXPORT)))
        for at in range(len(content)):
            client.send(frame(DATA, 0, 1, content[at : at + 1]))
        client.send(frame(DATA, 1, 1))
        assert (await client.answer(1))[0] == OK
    assert consumer.payloads == [SMALL]


@pytest.mark.parametrize("encoding", [name for name in COMPRESS if name != "identity"])
async def test_what_a_message_decompresses_to_is_bounded(receiver: Receiver, consumer: Consumer, encoding: str) -> None:
    async with connected(receiver.endpoints["grpc"]) as client:
        client.call(1, message(COMPRESS[encoding](bytes(LIMIT + 1))), grpc_encoding=encoding)
        status, text, _ = await client.answer(1)
        assert status == RESOURCE_EXHAUSTED
        assert text.startswith(f"the decompressed message is larger than {LIMIT} bytes")
        assert "set receivers.otlp.protocols.grpc.max_recv_msg_size" in text
        assert "grpc-status-details-bin" not in client.headers[1]  # so it is not sent again
    assert (consumer.payloads, consumer.refused) == ([], ["too_large"])


async def test_binary_trailers_are_not_padded(receiver: Receiver, consumer: Consumer) -> None:
    async with connected(receiver.endpoints["grpc"]) as client:
        found = []
        for stream, text in ((1, "a"), (3, "ab"), (5, "abc")):
            consumer.answer = OverloadedError(text)
            client.call(stream, message(SMALL, compressed=False))
            await client.answer(stream)
            found.append(client.headers[stream]["grpc-status-details-bin"])
    assert not any("=" in each for each in found)
    assert {len(each) % 4 for each in found} == {0, 2, 3}, "of which two would have had padding"


async def test_a_message_announced_as_too_large_is_refused_before_it_arrives(
    receiver: Receiver, consumer: Consumer
) -> None:
    async with connected(receiver.endpoints["grpc"]) as client:
        client.call(1, message(b"", length=LIMIT + 1), end=False)
        assert (await client.answer(1))[0] == RESOURCE_EXHAUSTED
        assert await client.until(RST_STREAM, 1) == NO_ERROR.to_bytes(4, "big")
        client.send(frame(DATA, 1, 1, b"what was on its way"))
        client.call(3, message(SMALL, compressed=False))
        assert (await client.answer(3))[0] == OK
    assert consumer.refused == ["too_large"]


async def test_an_unknown_compression_is_told_the_known_ones(receiver: Receiver, consumer: Consumer) -> None:
    """As gRPC's compression specification has it."""
    async with connected(receiver.endpoints["grpc"]) as client:
        client.call(1, message(SMALL), grpc_encoding="br")
        status, text, _ = await client.answer(1)
        assert (status, "found 'br'" in text) == (UNIMPLEMENTED, True)
        assert client.headers[1]["grpc-accept-encoding"].startswith("identity, gzip, deflate, zlib, zstd, snappy")
    assert consumer.refused == ["unsupported_encoding"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "carries no request"),
        (message(SMALL, compressed=False)[:-1], "truncated"),
        (message(SMALL, compressed=False) * 2, "more than one message"),
        (b"\0\0", "truncated"),
    ],
)
async def test_what_is_no_message_is_refused_for_good(
    receiver: Receiver, consumer: Consumer, content: bytes, why: str
) -> None:
    async with connected(receiver.endpoints["grpc"]) as client:
        client.call(1, content)
        status, text, _ = await client.answer(1)
    assert status == INVALID_ARGUMENT
    assert why in text
    assert consumer.refused == ["malformed"]


@pytest.mark.parametrize("flags", [0, END_STREAM])
async def test_data_for_a_request_that_is_over_costs_credit(receiver: Receiver, flags: int) -> None:
    async with connected(receiver.endpoints["grpc"]) as client:
        client.send(frame(HEADERS, END_HEADERS, 1, header_block(EXPORT | {":path": "/nowhere"})))
        await client.until(HEADERS, 1, END_STREAM)
        client.send(frame(DATA, flags, 1, bytes(300)) * 5_000)
        with contextlib.suppress(ConnectionResetError):
            await client.end()


@pytest.mark.parametrize("content", [message(SMALL, compressed=True), b"\2" + message(SMALL)[1:]])
async def test_a_message_said_to_be_compressed_by_nothing_is_a_contradiction(
    receiver: Receiver, consumer: Consumer, content: bytes
) -> None:
    """``INTERNAL``, as gRPC's compression specification has it."""
    async with connected(receiver.endpoints["grpc"]) as client:
        client.call(1, content)
        status, text, _ = await client.answer(1)
    assert status == INTERNAL
    assert "not how" in text
    assert consumer.refused == ["malformed"]


@pytest.mark.parametrize("more", [{"content-type": "application/json"}, {":method": "GET"}])
async def test_what_is_not_grpc_gets_an_answer_of_http(receiver: Receiver, more: dict[str, str]) -> None:
    async with connected(receiver.endpoints["grpc"]) as client:
        client.send(frame(HEADERS, END_HEADERS, 1, header_block(EXPORT | more)))
        await client.until(HEADERS, 1)
        assert client.headers[1][":status"] == "415"


# Streams


async def test_an_answer_waits_for_room_and_takes_what_there_is(receiver: Receiver, consumer: Consumer) -> None:
    consumer.answer = Outcome(1, "one is too old")
    async with connected(receiver.endpoints["grpc"], {INITIAL_WINDOW_SIZE: 0}) as client:
        client.call(1, message(SMALL, compressed=False))
        await client.until(HEADERS, 1)
        for room in (3, 4):
            client.send(frame(WINDOW_UPDATE, 0, 1, room.to_bytes(4, "big")))
            await client.until(DATA, 1, size=room)
        client.send(frame(WINDOW_UPDATE, 0, 1, (1000).to_bytes(4, "big")))
        status, _, body = await client.answer(1)
        assert (status, b"one is too old" in body) == (OK, True)


async def test_windows_that_grow_by_settings_count(receiver: Receiver) -> None:
    async with connected(receiver.endpoints["grpc"], {INITIAL_WINDOW_SIZE: 0}) as client:
        client.call(1, message(SMALL, compressed=False))
        await client.until(HEADERS, 1)
        client.send(frame(SETTINGS, 0, 0, INITIAL_WINDOW_SIZE.to_bytes(2, "big") + (1000).to_bytes(4, "big")))
        assert (await client.answer(1))[0] == OK


async def test_a_request_too_many_is_refused_and_costs_the_others_nothing(
    receiver: Receiver, consumer: Consumer
) -> None:
    consumer.may_answer.clear()
    async with connected(receiver.endpoints["grpc"]) as client:
        settings = await client.until(SETTINGS)
        assert MAX_CONCURRENT_STREAMS.to_bytes(2, "big") + (10).to_bytes(4, "big") in settings
        for stream in range(1, 23, 2):
            client.call(stream, message(SMALL, compressed=False))
        assert await client.until(RST_STREAM, 21) == REFUSED_STREAM.to_bytes(4, "big")
        consumer.may_answer.set()
        assert [(await client.answer(stream))[0] for stream in range(1, 21, 2)] == [OK] * 10
        client.call(23, message(SMALL, compressed=False))
        assert (await client.answer(23))[0] == OK
    assert len(consumer.payloads) == 11


async def test_a_client_that_gives_up_is_not_worked_for(receiver: Receiver, consumer: Consumer) -> None:
    consumer.may_answer.clear()
    async with connected(receiver.endpoints["grpc"]) as client:
        client.call(1, message(SMALL, compressed=False))
        client.call(3, message(SMALL, compressed=False)[:7], end=False)
        await consumer.entered.wait()
        client.send(frame(RST_STREAM, 0, 1, (8).to_bytes(4, "big")))
        client.send(frame(RST_STREAM, 0, 3, (8).to_bytes(4, "big")))
        async with asyncio.timeout(PATIENCE):
            while consumer.cancelled == 0 or not consumer.refused:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.01)
    assert consumer.refused == ["disconnected"]


async def test_a_refusal_says_when_to_come_back(receiver: Receiver, consumer: Consumer) -> None:
    consumer.answer = OverloadedError("full", 2.5)
    async with connected(receiver.endpoints["grpc"]) as client:
        client.call(1, message(SMALL, compressed=False))
        status, text, body = await client.answer(1)
        assert (status, text, body) == (RESOURCE_EXHAUSTED, "full", b"")
        assert "grpc-status-details-bin" in client.headers[1]


async def test_a_client_does_not_decide_how_much_is_remembered_for_it(receiver: Receiver) -> None:
    """Our answers name nothing that a client would have to keep, or we."""
    async with connected(receiver.endpoints["grpc"], {HEADER_TABLE_SIZE: 2**32 - 1}) as client:
        for stream in (1, 3):
            client.call(stream, message(SMALL, compressed=False))
            assert (await client.answer(stream))[0] == OK
            client.send(frame(SETTINGS, 0, 0, HEADER_TABLE_SIZE.to_bytes(2, "big") + bytes(4)))
        blocks = [content for kind, _, _, content in client.frames if kind == HEADERS]
    assert blocks[0].startswith(b"\x20")  # a table of nothing
    assert blocks[0].removeprefix(b"\x20") == blocks[2]
    assert all(block.removeprefix(b"\x20").startswith(b"\0") for block in blocks)


async def test_clients_may_keep_headers_in_their_table(receiver: Receiver) -> None:
    encoder = Encoder()
    async with connected(receiver.endpoints["grpc"]) as client:
        for stream in (1, 3, 5):
            client.send(frame(HEADERS, END_HEADERS, stream, encoder.encode(EXPORT)))
            client.send(frame(DATA, 1, stream, message(SMALL, compressed=False)))
            assert (await client.answer(stream))[0] == OK


# The end


async def test_a_client_that_goes_away_gets_its_answers(receiver: Receiver, consumer: Consumer) -> None:
    consumer.may_answer.clear()
    async with connected(receiver.endpoints["grpc"]) as client:
        client.call(1, message(SMALL, compressed=False))
        await consumer.entered.wait()
        client.send(frame(GOAWAY, 0, 0, bytes(8)))
        consumer.may_answer.set()
        assert (await client.answer(1))[0] == OK
        await client.end()


async def test_clients_are_told_of_the_end_and_what_was_taken_is_answered(
    receiver: Receiver, consumer: Consumer
) -> None:
    consumer.may_answer.clear()
    async with connected(receiver.endpoints["grpc"]) as client:
        client.call(1, message(SMALL, compressed=False))
        await consumer.entered.wait()
        stopping = asyncio.create_task(receiver.stop(30))
        last_stream_and_code = await client.until(GOAWAY)
        assert last_stream_and_code == (1).to_bytes(4, "big") + NO_ERROR.to_bytes(4, "big")
        client.call(3, message(SMALL, compressed=False))
        assert await client.until(RST_STREAM, 3) == REFUSED_STREAM.to_bytes(4, "big")
        consumer.may_answer.set()
        assert (await client.answer(1))[0] == OK
        await client.end()
        await stopping
    assert consumer.payloads == [SMALL]


async def test_what_is_not_done_at_the_end_is_to_be_sent_again(receiver: Receiver, consumer: Consumer) -> None:
    consumer.may_answer.clear()
    async with connected(receiver.endpoints["grpc"]) as client:
        client.call(1, message(SMALL, compressed=False))
        client.call(3, message(SMALL, compressed=False)[:7], end=False)
        await consumer.entered.wait()
        stopping = asyncio.create_task(receiver.stop(0))
        for stream in (1, 3):
            status, text, _ = await client.answer(stream)
            assert (status, "shutting down" in text) == (UNAVAILABLE, True)
        await client.end()
        await stopping
