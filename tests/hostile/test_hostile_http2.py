"""Clients that speak HTTP/2 to do harm: each is cut off or kept waiting, and nobody else is."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.hostile.harness import Gateway
from tests.support.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    EXPORT,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    frames_in,
    greeting,
    header_block,
    message,
)
from tests.support.telemetry import logs

PROTOCOL_ERROR, FRAME_SIZE_ERROR, ENHANCE_YOUR_CALM = 1, 6, 11
INITIAL_WINDOW_SIZE, HEADER_TABLE_SIZE = 4, 1
CANCEL = (8).to_bytes(4, "big")
BLOCK = header_block(EXPORT)
OPEN = frame(HEADERS, END_HEADERS, 1, BLOCK)
OVER = frame(HEADERS, END_HEADERS, 1, header_block(EXPORT | {":path": "/nowhere"}))
PAYLOAD = logs("x").payload


def rapid_reset() -> Iterator[bytes]:
    """CVE-2023-44487."""
    for stream in range(1, 200_000, 2):
        yield frame(HEADERS, END_HEADERS, stream, BLOCK) + frame(RST_STREAM, 0, stream, CANCEL)


def rapid_reset_of_whole_requests() -> Iterator[bytes]:
    content = frame(DATA, END_STREAM, 1, message(PAYLOAD, compressed=False))
    for stream in range(1, 200_000, 2):
        yield frame(HEADERS, END_HEADERS, stream, BLOCK)
        yield content[:5] + stream.to_bytes(4, "big") + content[9:] + frame(RST_STREAM, 0, stream, CANCEL)


def repeated(part: bytes, first: bytes = b"") -> Iterator[bytes]:
    yield first
    for _ in range(2_000):
        yield part * 50


FLOODS = {
    "rapid reset": rapid_reset,
    "rapid reset of whole requests": rapid_reset_of_whole_requests,
    "pings": lambda: repeated(frame(PING, 0, 0, bytes(8))),
    "acknowledged pings": lambda: repeated(frame(PING, ACK, 0, bytes(8))),
    "settings": lambda: repeated(frame(SETTINGS, 0, 0)),
    "long settings": lambda: repeated(frame(SETTINGS, 0, 0, b"\0\1\0\0\x10\0" * 2_000)),
    "priorities": lambda: repeated(frame(PRIORITY, 0, 1, b"\0\0\0\0\x10")),
    "resets of nothing": lambda: repeated(frame(RST_STREAM, 0, 1, CANCEL), OPEN),
    "windows opened bit by bit": lambda: repeated(frame(WINDOW_UPDATE, 0, 0, (1).to_bytes(4, "big"))),
    "empty data": lambda: repeated(frame(DATA, 0, 1), OPEN),
    "crumbs": lambda: repeated(frame(DATA, 0, 1, b"\0"), OPEN + frame(DATA, 0, 1, message(b"", length=10_000_000))),
    "padding": lambda: repeated(frame(DATA, 8, 1, b"\xc8" + bytes(200)), OPEN),
    "nothing but padding": lambda: repeated(frame(DATA, 8, 1, b"\xff" + bytes(255)), OPEN),
    "data for a request that is over": lambda: repeated(frame(DATA, 0, 1, bytes(4_000)), OVER),
    "the end of a request that is over": lambda: repeated(frame(DATA, END_STREAM, 1), OVER),
    "empty continuations": lambda: repeated(frame(CONTINUATION, 0, 1), frame(HEADERS, 0, 1, BLOCK)),
    "long continuations": lambda: repeated(frame(CONTINUATION, 0, 1, b"\0\1a\1b" * 3_000), frame(HEADERS, 0, 1, BLOCK)),
    "changes of the table": lambda: repeated(frame(HEADERS, END_HEADERS, 1, b"\x20" * 16_000)),
    "unknown frames": lambda: repeated(frame(0xEE, 0, 0, bytes(10))),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_floods_are_cut_off(gateway: Gateway, flood: str) -> None:
    with gateway.connection(gateway.grpc_address) as connection:
        assert is_cut_off(connection, FLOODS[flood]())
    gateway.assert_serves()


def is_cut_off(connection: socket.socket, flood: Iterator[bytes]) -> bool:
    """Send it all, or until the server does not listen any more."""
    connection.sendall(greeting())
    try:
        for part in flood:
            connection.sendall(part)
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"\xff\xff\xff" + frame(DATA, 0, 1)[3:], FRAME_SIZE_ERROR),
        (b"\0\x40\1" + frame(HEADERS, 0, 1)[3:], FRAME_SIZE_ERROR),
        (frame(CONTINUATION, 0, 1, BLOCK), PROTOCOL_ERROR),
        (frame(HEADERS, 0, 1, BLOCK) + frame(DATA, 0, 1), PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 2, BLOCK), PROTOCOL_ERROR),
        (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + BLOCK), PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 1, b"\xff" * 100), PROTOCOL_ERROR),
        # An entry of 4 KB in the table, named a hundred times: 400 KB of headers in a few bytes.
        (frame(HEADERS, END_HEADERS, 1, b"\x40\1a\x7f\xa1\x1e" + b"x" * 4_000 + b"\xbe" * 100), ENHANCE_YOUR_CALM),
    ],
)
def test_what_breaks_the_rules_is_told_and_cut_off(gateway: Gateway, said: bytes, code: int) -> None:
    answer = gateway.raw_grpc(greeting() + said)
    codes = [int.from_bytes(content[4:8], "big") for kind, _, _, content in frames_in(answer) if kind == GOAWAY]
    assert codes == [code]
    gateway.assert_serves()


def test_a_client_that_leaves_no_room_for_answers_has_no_more_than_its_streams(gateway: Gateway) -> None:
    content = message(PAYLOAD, compressed=False)
    with gateway.connection(gateway.grpc_address) as connection:
        connection.sendall(greeting({INITIAL_WINDOW_SIZE: 0}))
        for stream in range(1, 2_101, 2):
            connection.sendall(frame(HEADERS, END_HEADERS, stream, BLOCK) + frame(DATA, END_STREAM, stream, content))
        answer, refused = b"", 0
        while refused < 50:
            answer += connection.recv(65536)
            refused = sum(kind == RST_STREAM for kind, _, _, _ in frames_in(answer))
        gateway.assert_serves()


def test_requests_that_never_end_are_no_more_than_the_streams(gateway: Gateway) -> None:
    beginning = message(b"\x0a" * 1000, compressed=False, length=10_000_000)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(gateway.connection(gateway.grpc_address))
            connection.sendall(greeting())
            for stream in range(1, 201, 2):
                connection.sendall(frame(HEADERS, END_HEADERS, stream, BLOCK) + frame(DATA, 0, stream, beginning))
        gateway.assert_serves()


def test_connections_that_say_nothing_keep_nobody_out(gateway: Gateway) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(200):
            connection = stack.enter_context(gateway.connection(gateway.grpc_address))
            connection.sendall(greeting()[: number % 40])
        gateway.assert_serves()
