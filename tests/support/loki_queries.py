"""A stand-in for Loki's query API, as far as reading logs goes, with its documented rules and none of LogQL."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class LokiStandIn:
    """Holds entries, answers every query with all of them in its range, and remembers what it was asked."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, str, dict[str, str]]] = []
        self.queries: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.failure: tuple[int, str] | None = None
        self.url = ""

    def push(self, at: int, line: str, **labels: str) -> None:
        """Add an entry, unless there is an equal one: those Loki drops."""
        entry = (at, line, {"service_name": "unknown_service", **labels})
        if entry not in self.entries:
            self.entries.append(entry)

    def answer(self, asked: dict[str, str]) -> dict[str, Any]:
        """From `start` to before `end`; the first `limit` in the direction asked for, grouped by stream."""
        start, end, backward = int(asked["start"]), int(asked["end"]), asked["direction"] == "backward"
        assert start < end, "end timestamp must not be before or equal to start time"
        found = sorted((entry for entry in self.entries if start <= entry[0] < end), key=lambda entry: entry[0])
        streams: defaultdict[str, list[list[str]]] = defaultdict(list)
        for at, line, labels in (found[::-1] if backward else found)[: int(asked["limit"])]:
            streams[json.dumps(labels, sort_keys=True)].append([str(at), line])
        result = [{"stream": json.loads(labels), "values": values} for labels, values in streams.items()]
        return {"status": "success", "data": {"resultType": "streams", "result": result, "stats": {}}}


@contextmanager
def loki_stand_in() -> Iterator[LokiStandIn]:
    """A stand-in that listens on a free port of the loopback."""
    loki = LokiStandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            asked = {key: values[0] for key, values in parse_qs(url.query).items()}
            loki.queries.append(asked)
            loki.headers.append(dict(self.headers))
            status, body = 200, b""
            if loki.failure is not None:
                status, body = loki.failure[0], loki.failure[1].encode()
            elif url.path != "/loki/api/v1/query_range":
                status, body = 404, b"404 page not found"
            else:
                body = json.dumps(loki.answer(asked)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    loki.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield loki
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
