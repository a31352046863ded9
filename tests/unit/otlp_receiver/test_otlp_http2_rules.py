"""What HTTP/2 forbids, frame by frame, and what follows from it: for the connection, or for the one request."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import pytest

from receivers.otlp.http2 import connection, frames
from receivers.otlp.http2.connection import Connections, Http2Connection
from receivers.otlp.http2.frames import ErrorCodes
from receivers.otlp.http2.request_head import Head
from receivers.otlp.http2.stream import Stream
from tests.support.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    EXPORT,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Transport,
    frame,
    frames_in,
    greeting,
    header_block,
)

BLOCK = header_block(EXPORT)
OPEN = frame(HEADERS, END_HEADERS, 1, BLOCK)
WHOLE = frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK)
END = frame(DATA, END_STREAM, 1)
WITH_PRIORITY = 0x20


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def setting(code: int, value: int) -> bytes:
    return frame(SETTINGS, 0, 0, struct.pack(">HL", code, value))


class Recorded:
    """A request: what came of it."""

    def __init__(self, stream: Stream, head: Head) -> None:
        self.stream = stream
        self.head = head
        self.body = b""
        self.end = ""

    def received(self, data: bytes) -> None:
        self.body += data

    def ended(self) -> None:
        self.end += "ended"

    def too_slow(self) -> None:
        self.end += "too slow"

    def shut_down(self) -> None:
        self.end += "shut down"

    def lost(self) -> None:
        self.end += "lost"


class Conversation:
    """A connection that was spoken to, and what it did. ``kind`` takes the requests."""

    def __init__(
        self, *said: bytes | Callable[[list[Recorded]], None], kind: Callable[[Stream, Head], Recorded] = Recorded
    ) -> None:
        self._kind = kind
        self.turns: list[int] = []
        """How many requests had begun after each turn of the event loop."""
        self.requests: list[Recorded] = []
        asyncio.run(self._converse(said))
        answers = list(frames_in(self.transport.written))
        goodbyes = [content for kind, _, _, content in answers if kind == GOAWAY]
        self.goodbye = ErrorCodes(int.from_bytes(goodbyes[0][4:8], "big")) if goodbyes else None
        self.resets = {
            stream: ErrorCodes(int.from_bytes(content, "big"))
            for kind, _, stream, content in answers
            if kind == RST_STREAM
        }
        self.answers = answers

    async def _converse(self, said: tuple[bytes | Callable[[list[Recorded]], None], ...]) -> None:
        def opened(stream: Stream, head: Head) -> Recorded:
            self.requests.append(self._kind(stream, head))
            return self.requests[-1]

        self.transport = Transport()
        spoken_to = Http2Connection(opened, Connections(), 4)
        spoken_to.connection_made(self.transport)  # type: ignore[arg-type]
        for each in said:
            if isinstance(each, bytes):
                spoken_to.data_received(each)
            else:
                each(self.requests)
            await asyncio.sleep(0)
            while not (self.transport.reads or self.transport.closing):
                self.turns.append(len(self.requests))
                await asyncio.sleep(0)
        self.ends = [request.end for request in self.requests]
        spoken_to.connection_lost(None)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (frame(DATA, 0, 1), ErrorCodes.PROTOCOL_ERROR),
        (frame(DATA, 0, 0), ErrorCodes.PROTOCOL_ERROR),
        (OPEN + frame(DATA, 0, 2), ErrorCodes.PROTOCOL_ERROR),
        (OPEN + frame(DATA, PADDED, 1, b"\5abc"), ErrorCodes.PROTOCOL_ERROR),
        (OPEN + frame(DATA, PADDED, 1), ErrorCodes.FRAME_SIZE_ERROR),
        (frame(HEADERS, END_HEADERS, 0, BLOCK), ErrorCodes.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 2, BLOCK), ErrorCodes.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff" + BLOCK), ErrorCodes.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, number(1) + b"\x10" + BLOCK), ErrorCodes.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, b"\0\0"), ErrorCodes.FRAME_SIZE_ERROR),
        (frame(HEADERS, END_HEADERS, 1, BLOCK[:-1]), ErrorCodes.PROTOCOL_ERROR),
        (OPEN + frame(HEADERS, END_HEADERS, 1, header_block({"x": "y"})), ErrorCodes.PROTOCOL_ERROR),
        (OPEN + frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK), ErrorCodes.PROTOCOL_ERROR),
        (frame(CONTINUATION, END_HEADERS, 1, BLOCK), ErrorCodes.PROTOCOL_ERROR),
        (frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, END_HEADERS, 3), ErrorCodes.PROTOCOL_ERROR),
        (frame(HEADERS, 0, 1, BLOCK) + frame(PING, 0, 0, bytes(8)), ErrorCodes.PROTOCOL_ERROR),
        (frame(PUSH_PROMISE, END_HEADERS, 1, number(2) + BLOCK), ErrorCodes.PROTOCOL_ERROR),
        (frame(PING, 0, 0, bytes(7)), ErrorCodes.FRAME_SIZE_ERROR),
        (frame(PING, 0, 1, bytes(8)), ErrorCodes.PROTOCOL_ERROR),
        (frame(SETTINGS, 0, 1), ErrorCodes.PROTOCOL_ERROR),
        (frame(SETTINGS, 0, 0, bytes(5)), ErrorCodes.FRAME_SIZE_ERROR),
        (frame(SETTINGS, ACK, 0, bytes(6)), ErrorCodes.FRAME_SIZE_ERROR),
        (setting(2, 2), ErrorCodes.PROTOCOL_ERROR),
        (setting(4, 2**31), ErrorCodes.FLOW_CONTROL_ERROR),
        (setting(5, 2**14 - 1), ErrorCodes.PROTOCOL_ERROR),
        (setting(5, 2**24), ErrorCodes.PROTOCOL_ERROR),
        (frame(RST_STREAM, 0, 1, number(8)), ErrorCodes.PROTOCOL_ERROR),
        (frame(RST_STREAM, 0, 0, number(8)), ErrorCodes.PROTOCOL_ERROR),
        (OPEN + frame(RST_STREAM, 0, 1, bytes(3)), ErrorCodes.FRAME_SIZE_ERROR),
        (frame(WINDOW_UPDATE, 0, 0, number(0)), ErrorCodes.PROTOCOL_ERROR),
        (frame(WINDOW_UPDATE, 0, 0, bytes(3)), ErrorCodes.FRAME_SIZE_ERROR),
        (frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1)), ErrorCodes.FLOW_CONTROL_ERROR),
        (frame(WINDOW_UPDATE, 0, 1, number(1)), ErrorCodes.PROTOCOL_ERROR),
        (OPEN + frame(WINDOW_UPDATE, 0, 1, number(1)) + setting(4, 2**31 - 1), ErrorCodes.FLOW_CONTROL_ERROR),
        (frame(PRIORITY, 0, 1, number(1) + b"\x10"), ErrorCodes.PROTOCOL_ERROR),
        (frame(PRIORITY, 0, 1, bytes(4)), ErrorCodes.FRAME_SIZE_ERROR),
        (frame(GOAWAY, 0, 1, bytes(8)), ErrorCodes.PROTOCOL_ERROR),
        (OPEN + 65 * frame(DATA, 0, 1, bytes(2**14)), None),  # more than a window, of which we gave back a part
    ],
)
def test_what_breaks_the_rules(said: bytes, code: ErrorCodes | None) -> None:
    conversation = Conversation(greeting() + said)
    assert (conversation.goodbye, conversation.transport.closing) == (code, code is not None)
    if code is not None:
        assert set(conversation.ends) <= {"lost"}


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (PREFACE[:-2] + b"XX", ErrorCodes.PROTOCOL_ERROR),
        (PREFACE + frame(PING, 0, 0, bytes(8)), ErrorCodes.PROTOCOL_ERROR),
        (PREFACE + frame(HEADERS, END_HEADERS, 1, BLOCK), ErrorCodes.PROTOCOL_ERROR),
    ],
)
def test_what_does_not_begin_as_http2_does(said: bytes, code: ErrorCodes) -> None:
    for parts in ([said], [said[at : at + 1] for at in range(len(said))]):
        conversation = Conversation(*parts)
        assert [kind for kind, *_ in conversation.answers] == [SETTINGS, WINDOW_UPDATE, GOAWAY]
        assert conversation.goodbye is code


def test_whoever_speaks_http1_is_told_so_in_http1() -> None:
    """Exporters of OTLP over HTTP are often pointed at this port, and log what they are answered."""
    said = b"POST /v1/logs HTTP/1.1\r\nHost: hub\r\n\r\n"
    for parts in ([said], [said[:1], said[1:]]):
        conversation = Conversation(*parts)
        head, _, body = conversation.transport.written.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 505 ")
        assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
        assert b"4318" in body
        assert conversation.transport.closing


def test_many_frames_at_once_leave_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing more is read meanwhile, and all is worked off in its order."""
    monkeypatch.setattr(connection, "_TURN", -1.0)  # each frame takes too long
    opened = [frame(HEADERS, END_HEADERS, stream, BLOCK) for stream in (1, 3, 5)]
    bodies = [frame(DATA, END_STREAM, stream, bytes((stream,))) for stream in (1, 3, 5)]
    conversation = Conversation(greeting() + b"".join(opened) + b"".join(bodies))
    assert conversation.turns == [1, 2, 3, 3, 3]
    assert [request.body for request in conversation.requests] == [b"\1", b"\3", b"\5"]
    assert conversation.ends == ["ended"] * 3
    assert conversation.transport.reads


class AnsweredAtOnce(Recorded):
    """A request that nothing of is waited for."""

    def __init__(self, stream: Stream, head: Head) -> None:
        super().__init__(stream, head)
        if b"x-late" not in head.fields:
            self._answer()

    def received(self, data: bytes) -> None:
        self._answer()

    def _answer(self) -> None:
        self.stream.send_headers(((b":status", b"415"),), end=True)


def test_a_request_that_has_ended_is_not_reset_behind_its_answer() -> None:
    """Some clients take the reset of a request that is over for an error. One that goes on is stopped by it."""
    late = frame(HEADERS, END_HEADERS, 3, header_block(EXPORT | {"x-late": "yes"})) + frame(DATA, END_STREAM, 3, b"x")
    goes_on = frame(HEADERS, END_HEADERS, 5, BLOCK)
    conversation = Conversation(greeting() + WHOLE + late + goes_on, kind=AnsweredAtOnce)
    assert conversation.resets == {5: ErrorCodes.NO_ERROR}
    assert [stream for kind, _, stream, _ in conversation.answers if kind == HEADERS] == [1, 3, 5]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (END, ErrorCodes.STREAM_CLOSED),  # a second end
        (frame(HEADERS, END_HEADERS | END_STREAM, 1, header_block({"x": "y"})), ErrorCodes.STREAM_CLOSED),
        (2 * frame(WINDOW_UPDATE, 0, 1, number(2**31 - 1)), ErrorCodes.FLOW_CONTROL_ERROR),
    ],
)
def test_what_breaks_the_rules_of_one_request_costs_that_one(more: bytes, code: ErrorCodes) -> None:
    other = frame(HEADERS, END_HEADERS | END_STREAM, 3, BLOCK)
    conversation = Conversation(greeting() + WHOLE + more + other)
    assert (conversation.goodbye, conversation.resets) == (None, {1: code})
    assert conversation.ends == ["endedlost", "ended"]


def test_what_comes_late_for_a_request_that_was_broken_off_is_ignored() -> None:
    """It was on its way. Its headers are read nevertheless, for those behind them depend on them."""

    def refuse(requests: list[Recorded]) -> None:
        requests[0].stream.send_headers(((b":status", b"200"),), end=True)

    kept = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x40\1a\1b")
    late = frame(DATA, 0, 1, b"late") + frame(WINDOW_UPDATE, 0, 1, number(1)) + kept
    named = frame(HEADERS, END_HEADERS | END_STREAM, 3, BLOCK + b"\xbe")
    conversation = Conversation(greeting() + OPEN, refuse, late, named)
    assert (conversation.goodbye, conversation.resets) == (None, {1: ErrorCodes.NO_ERROR})
    assert conversation.requests[0].body == b""
    assert conversation.requests[1].head.values(b"a") == [b"b"]


def test_of_a_setting_that_comes_very_often_the_last_value_counts() -> None:
    """Each window of a request is changed once, not thousands of times for one frame."""
    many = b"".join(struct.pack(">HL", 4, value) for value in range(2_000))
    conversation = Conversation(greeting() + OPEN + frame(SETTINGS, 0, 0, many))
    assert conversation.requests[0].stream.window == 1_999
    assert frames.read_settings(many) == {4: 1_999}


def test_headers_for_a_request_that_is_over_end_the_connection() -> None:
    def answer(requests: list[Recorded]) -> None:
        requests[0].stream.send_headers(((b":status", b"200"),), end=True)

    conversation = Conversation(greeting() + WHOLE, answer, WHOLE)
    assert conversation.goodbye is ErrorCodes.STREAM_CLOSED


@pytest.mark.parametrize("length", [b"3", b"5"])
def test_a_body_is_as_long_as_it_was_said_to_be(length: bytes) -> None:
    opened = frame(HEADERS, END_HEADERS, 1, header_block(EXPORT | {"content-length": length.decode()}))
    body = frame(DATA, END_STREAM, 1, b"abcd")
    assert Conversation(greeting() + opened + body).goodbye is ErrorCodes.PROTOCOL_ERROR


def test_a_request_may_end_with_trailers_and_have_padding_priority_and_pieces() -> None:
    opened = frame(HEADERS, PADDED | WITH_PRIORITY, 1, b"\3" + number(3) + b"\x10" + BLOCK[:40] + bytes(3))
    rest = frame(CONTINUATION, 0, 1, BLOCK[40:50]) + frame(CONTINUATION, END_HEADERS, 1, BLOCK[50:])
    body = frame(DATA, PADDED, 1, b"\2abcd\0\0") + frame(0xEE, 0xFF, 1, b"unknown")
    end = frame(HEADERS, END_HEADERS | END_STREAM, 1, header_block({"x": "y"}))
    said = greeting() + opened + rest + body + end
    for parts in ([said], [said[at : at + 1] for at in range(len(said))]):
        conversation = Conversation(*parts)
        (request,) = conversation.requests
        assert (request.body, conversation.ends) == (b"abcd", ["ended"])
        assert request.head.values(b":path") == [EXPORT[":path"].encode()]


def test_more_than_there_is_room_for_ends_the_connection() -> None:
    """A client that takes no notice of its window, which is given back only once half of it is used."""
    conversation = Conversation(greeting() + OPEN + 31 * frame(DATA, 0, 1, bytes(2**14)))
    assert [each for each in conversation.answers if each[0] == WINDOW_UPDATE and each[2] == 1] == []
    conversation = Conversation(greeting() + OPEN + 33 * frame(DATA, 0, 1, bytes(2**14)))
    given_back = [content for kind, _, stream, content in conversation.answers if (kind, stream) == (WINDOW_UPDATE, 1)]
    assert [int.from_bytes(content, "big") for content in given_back] == [33 * 2**14]


def test_long_headers_of_an_answer_go_in_frames_that_the_client_takes() -> None:
    def answer(requests: list[Recorded]) -> None:
        requests[0].stream.send_headers(((b":status", b"200"), (b"x", b"y" * 40_000)), end=True)

    conversation = Conversation(greeting() + WHOLE, answer)
    flags = [(kind, flags) for kind, flags, stream, _ in conversation.answers if stream == 1]
    assert flags == [(HEADERS, END_STREAM), (CONTINUATION, 0), (CONTINUATION, END_HEADERS)]
