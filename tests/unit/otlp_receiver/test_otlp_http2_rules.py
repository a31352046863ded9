"""What HTTP/2 forbids, frame by frame, and what follows from it: for the connection, or for the one request."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import pytest
from h2.errors import ErrorCodes

from receivers.otlp.http2 import frames
from receivers.otlp.http2.connection import Connections, Http2Connection
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


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closing = False

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return "127.0.0.1", 1


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
    """A connection that was spoken to, and what it did."""

    def __init__(self, *said: bytes | Callable[[list[Recorded]], None]) -> None:
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
            self.requests.append(Recorded(stream, head))
            return self.requests[-1]

        self.transport = Transport()
        connection = Http2Connection(opened, Connections(), 4)
        connection.connection_made(self.transport)  # type: ignore[arg-type]
        for each in said:
            if isinstance(each, bytes):
                connection.data_received(each)
            else:
                each(self.requests)
            await asyncio.sleep(0)
        self.ends = [request.end for request in self.requests]
        connection.connection_lost(None)


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
        (b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n", ErrorCodes.PROTOCOL_ERROR),
        (PREFACE[:-2] + b"XX", ErrorCodes.PROTOCOL_ERROR),
        (PREFACE + frame(PING, 0, 0, bytes(8)), ErrorCodes.PROTOCOL_ERROR),
    ],
)
def test_what_does_not_begin_as_http2_does(said: bytes, code: ErrorCodes) -> None:
    assert Conversation(said).goodbye is code
    assert Conversation(*(said[at : at + 1] for at in range(len(said)))).goodbye is code


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
    connection = Conversation(greeting() + OPEN + 31 * frame(DATA, 0, 1, bytes(2**14)))
    assert [each for each in connection.answers if each[0] == WINDOW_UPDATE and each[2] == 1] == []
    connection = Conversation(greeting() + OPEN + 33 * frame(DATA, 0, 1, bytes(2**14)))
    given_back = [content for kind, _, stream, content in connection.answers if (kind, stream) == (WINDOW_UPDATE, 1)]
    assert [int.from_bytes(content, "big") for content in given_back] == [33 * 2**14]


def test_long_headers_of_an_answer_go_in_frames_that_the_client_takes() -> None:
    def answer(requests: list[Recorded]) -> None:
        requests[0].stream.send_headers(((b":status", b"200"), (b"x", b"y" * 40_000)), end=True)

    conversation = Conversation(greeting() + WHOLE, answer)
    flags = [(kind, flags) for kind, flags, stream, _ in conversation.answers if stream == 1]
    assert flags == [(HEADERS, END_STREAM), (CONTINUATION, 0), (CONTINUATION, END_HEADERS)]
