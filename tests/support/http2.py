"""HTTP/2 spoken frame by frame, for what no client library says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from urllib.parse import unquote

from hpack import Decoder, Encoder

from tests.support.waiting import PATIENCE

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK = END_STREAM = 1
END_HEADERS = 4
PADDED = 8

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


class Transport:
    """A transport that goes nowhere, and keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closing = False
        self.reads = True

    def write(self, data: bytes) -> None:
        assert not self.closing
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return "127.0.0.1", 1


class Client:
    """A client of one connection that keeps every frame it gets. Its headers change no table; ours may."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._decoder = Decoder()
        self._rest = b""
        self.frames: list[tuple[int, int, int, bytes]] = []
        self.headers: dict[int, dict[str, str]] = {}
        self.data: dict[int, bytes] = {}

    def send(self, *parts: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(b"".join(parts))

    def call(self, stream: int, content: bytes, *, end: bool = True, **headers: str) -> None:
        """Send a call that exports logs; underscores in names of headers stand for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.send(frame(HEADERS, END_HEADERS, stream, header_block(EXPORT | named)))
        pieces = [content[at : at + 2**14] for at in range(0, len(content), 2**14)] or [b""]
        for piece in pieces[:-1]:
            self.send(frame(DATA, 0, stream, piece))
        self.send(frame(DATA, end, stream, pieces[-1]))

    async def until(self, kind: int, stream: int = 0, flags: int = 0, *, size: int | None = None) -> bytes:
        """Wait for a frame that has these flags, and this size; return its content."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for found, its_flags, its_stream, content in self.frames:
                    is_it = (found, its_stream, its_flags & flags) == (kind, stream, flags)
                    if is_it and size in (None, len(content)):
                        return content
                await self._read()

    async def answer(self, stream: int) -> tuple[str, str, bytes]:
        """Wait for the end of a call; return its status, its message, and the body."""
        await self.until(HEADERS, stream, END_STREAM)
        headers = self.headers[stream]
        return headers["grpc-status"], unquote(headers.get("grpc-message", "")), self.data.get(stream, b"")

    async def end(self) -> None:
        """Wait until the server has closed the connection."""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(EOFError):
                while True:
                    await self._read()

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    async def _read(self) -> None:
        chunk = await self._reader.read(65536)
        if not chunk:
            raise EOFError("the server has closed the connection")
        self._rest += chunk
        for each in frames_in(self._rest):
            kind, _, stream, content = each
            self._rest = self._rest[9 + len(content) :]
            self.frames.append(each)
            if kind == HEADERS:
                fields = {str(name): str(value) for name, value in self._decoder.decode(content)}
                self.headers[stream] = self.headers.get(stream, {}) | fields
            elif kind == DATA:
                self.data[stream] = self.data.get(stream, b"") + content


@contextlib.asynccontextmanager
async def connected(endpoint: str, settings: Mapping[int, int] | None = None) -> AsyncIterator[Client]:
    """A client that has said hello."""
    host, _, port = endpoint.rpartition(":")
    client = Client(*await asyncio.open_connection(host, int(port)))
    client.send(greeting(settings))
    try:
        yield client
    finally:
        client.close()
