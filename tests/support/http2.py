"""HTTP/2 spoken frame by frame, for what no client library says."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping

from hpack import Decoder, Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK = END_STREAM = 1
END_HEADERS = 4

EXPORT = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    ":authority": "hub",
    "te": "trailers",
    "content-type": "application/grpc",
}
"""The headers of a call that exports logs."""

LAST_HEADERS = bytes((HEADERS, END_STREAM | END_HEADERS)) + (1).to_bytes(4, "big")
"""Within the head of the frame that ends the answer on stream 1."""


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """A frame (RFC 9113, 4.1)."""
    return len(content).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + content


def greeting(settings: Mapping[int, int] | None = None) -> bytes:
    """What a client says first."""
    content = b"".join(code.to_bytes(2, "big") + value.to_bytes(4, "big") for code, value in (settings or {}).items())
    return PREFACE + frame(SETTINGS, 0, 0, content)


def header_block(headers: Mapping[str, str]) -> bytes:
    """Headers that change no table, so that blocks may come in any order."""
    encoder = Encoder()
    return encoder.encode([(name.encode(), value.encode(), True) for name, value in headers.items()], huffman=False)


def message(content: bytes, *, compressed: bool = True, length: int | None = None) -> bytes:
    """A gRPC message, ``length`` being what is said of its length."""
    return bytes((compressed,)) + (len(content) if length is None else length).to_bytes(4, "big") + content


def grpc_call(encoding: str, content: bytes, length: int | None = None) -> bytes:
    """A whole connection of a client that exports one message of logs; with ``length``, it does not end."""
    headers = frame(HEADERS, END_HEADERS, 1, header_block(EXPORT | {"grpc-encoding": encoding}))
    return greeting() + headers + frame(DATA, length is None, 1, message(content, length=length))


def frames_in(answer: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and content of every frame that is complete."""
    while len(answer) >= 9 and len(answer) >= (end := 9 + int.from_bytes(answer[:3], "big")):
        yield answer[3], answer[4], int.from_bytes(answer[5:9], "big"), answer[9:end]
        answer = answer[end:]


def headers_in(answer: bytes) -> dict[str, str]:
    """All headers that a server sent, those of later frames over those of earlier ones."""
    decoder, headers = Decoder(), dict[str, str]()
    for kind, _, _, content in frames_in(answer):
        if kind == HEADERS:
            headers |= {str(name): str(value) for name, value in decoder.decode(content)}
    return headers


def goaway_in(answer: bytes) -> int | None:
    """The error code a server ended the connection with."""
    codes = [int.from_bytes(content[4:8], "big") for kind, _, _, content in frames_in(answer) if kind == GOAWAY]
    return codes[-1] if codes else None


def receive(connection: socket.socket, *enough: bytes) -> bytes:
    """What comes until it holds one of those that are enough, or the server closes."""
    answer = b""
    while not any(each in answer for each in enough):
        try:
            chunk = connection.recv(65536)
        except ConnectionResetError:
            break
        if not chunk:
            break
        answer += chunk
    return answer
