"""A stand-in for Loki: an HTTP server that takes OTLP logs as Loki 3.7 does, keeps them, and fails when it is told to.

Like Loki it stores what it can of a request and answers 400 for the rest; keeps one of several entries of a stream that
are equal in timestamp and line; and answers with a ``google.rpc.Status`` whose type nobody declares.
"""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import zstandard
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from tests.integration.cli.processes import free_port
from tests.support.waiting import PATIENCE

_WEEK = 7 * 86_400 * 10**9

Entry = tuple[str, int, str]
"""Stream (its ``service.name``), timestamp in nanoseconds, line."""


class StandInLoki:
    """Listens on a port of its own, which it keeps when it is stopped and started again.

    ``answer`` is a status that each request gets instead of being looked at, with ``retry_after``; ``delay`` the
    seconds that it takes; ``max_line_size`` and ``max_request_size`` are Loki's limits.
    """

    def __init__(self) -> None:
        self.answer: int | None = None
        self.retry_after: str | None = None
        self.delay = 0.0
        self.max_line_size = 1_000
        self.max_request_size: int | None = None
        self.entries: dict[Entry, None] = {}
        self.repeated = 0
        self.requests: list[dict[str, str]] = []
        self.payloads: list[bytes] = []
        self.statuses: Counter[int] = Counter()
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._port = free_port()  # not one that an outgoing connection may have got by the time it starts again
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def lines(self) -> list[str]:
        with self._lock:
            return [line for _, _, line in self.entries]

    def lines_of(self, service: str) -> list[str]:
        """Return the lines of one service."""
        with self._lock:
            return [line for stream, _, line in self.entries if stream == service]

    def start(self) -> None:
        """Begin, or begin again, to listen."""
        loki = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, message = loki._answer(self.path, dict(self.headers), body)
                answer = Status(message=message).SerializeToString() if message else b""
                with contextlib.suppress(OSError):  # whoever asked may have given up
                    self.send_response(status)
                    if status != 204:
                        self.send_header("content-length", str(len(answer)))
                    if loki.retry_after is not None:
                        self.send_header("retry-after", loki.retry_after)
                    self.end_headers()
                    self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Listen no more. What it has, it keeps."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None
            self.answer = self.answer or 503  # on connections that are still open

    def restart(self) -> None:
        """Listen again, and work as if nothing had been."""
        self.answer, self.delay = None, 0.0
        if self._server is None:
            self.start()

    def _answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        headers = {name.lower(): value for name, value in headers.items()}
        if self.delay:
            time.sleep(self.delay)
        with self._lock:
            self.requests.append(headers)
            status, message = self._judge(path, headers, body)
            self.statuses[status] += 1
            return status, message

    def _judge(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        if self.answer is not None:
            return self.answer, "told to answer so"
        if path != "/otlp/v1/logs":
            return 404, "page not found"
        if self.max_request_size is not None and len(body) > self.max_request_size:
            return 413, f"message size {len(body)} larger than max"
        match headers.get("content-encoding"):
            case "gzip":
                body = gzip.decompress(body)
            case "zstd":
                body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        self.payloads.append(body)
        try:
            request = ExportLogsServiceRequest.FromString(body)
        except DecodeError as error:
            return 400, str(error)
        complaints: list[str] = []
        for resource_logs in request.resource_logs:
            attributes = {each.key: each.value.string_value for each in resource_logs.resource.attributes}
            stream = attributes.get("service.name", "unknown_service")
            for record in (record for scope in resource_logs.scope_logs for record in scope.log_records):
                at, line = record.time_unix_nano or record.observed_time_unix_nano, record.body.string_value
                if at < time.time_ns() - _WEEK:
                    complaints.append(f"entry for stream '{stream}' has timestamp too old: {at}")
                elif len(line) > self.max_line_size:
                    complaints.append(f"max entry size '{self.max_line_size}' bytes exceeded for stream '{stream}'")
                elif (entry := (stream, at, line)) in self.entries:
                    self.repeated += 1
                else:
                    self.entries[entry] = None
        return (400, "\n".join(complaints)) if complaints else (204, "")


@dataclass(frozen=True)
class RealLoki:
    """A Loki that runs already."""

    url: str

    def lines_of(self, service: str) -> list[str]:
        """Return the lines of one service that are not older than an hour."""
        now = time.time_ns()
        query = {"query": f'{{service_name="{service}"}}', "limit": 5_000, "start": now - 3_600 * 10**9, "end": now}
        answer = (
            httpx.get(f"{self.url}/loki/api/v1/query_range", params=query, timeout=PATIENCE).raise_for_status().json()
        )
        return [line for stream in answer["data"]["result"] for _, line in stream["values"]]


@contextmanager
def stand_in_loki() -> Iterator[StandInLoki]:
    """Run a stand-in for the length of a block."""
    loki = StandInLoki()
    try:
        yield loki
    finally:
        loki.stop()
