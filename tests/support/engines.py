"""A Docker or Podman that has only what it tells of its containers: the Engine API over a Unix socket."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CONTAINER_ID = "4f1c" * 16


def listed(name: str = "web", **changed: Any) -> dict[str, Any]:
    """A container as ``GET /containers/json`` lists it."""
    return {
        "Id": CONTAINER_ID,
        "Names": [f"/{name}"],
        "Image": "registry.example.com:5000/shop/web:1.2",
        "ImageID": "sha256:" + "ab" * 32,
        "Command": "serve --port 80",
        "Created": 1_764_000_000,
        "Ports": [],
        "Labels": {},
        "State": "running",
        "Status": "Up 2 hours (healthy)",
        "Mounts": [],
    } | changed


def details(**changed: Any) -> dict[str, Any]:
    """What ``GET /containers/{id}/json`` says, as much of it as anybody reads here."""
    return {
        "Id": CONTAINER_ID,
        "Created": "2025-11-24T16:00:00.123456789Z",
        "RestartCount": 3,
        "State": {
            "Status": "running",
            "Running": True,
            "StartedAt": "2025-11-24T18:00:00.987654321Z",
            "Health": {"Status": "healthy", "FailingStreak": 0, "Log": []},
        },
    } | changed


def stats(**changed: Any) -> dict[str, Any]:
    """What ``GET /containers/{id}/stats?stream=false&one-shot=true`` says with control groups of version 2."""
    return {
        "read": "2025-11-24T20:00:00.5Z",
        "preread": "0001-01-01T00:00:00Z",
        "pids_stats": {"current": 5, "limit": 4694},
        "blkio_stats": {
            "io_service_bytes_recursive": [
                {"major": 999, "minor": 0, "op": "read", "value": 4096},
                {"major": 999, "minor": 0, "op": "write", "value": 8192},
            ],
            "io_serviced_recursive": None,
        },
        "cpu_stats": {
            "cpu_usage": {
                "total_usage": 3_000_000_000,
                "usage_in_kernelmode": 1_000_000_000,
                "usage_in_usermode": 2_000_000_000,
            },
            "system_cpu_usage": 4_836_970_000_000,
            "online_cpus": 2,
        },
        "memory_stats": {"usage": 50_000_000, "stats": {"inactive_file": 20_000_000}, "limit": 100_000_000},
        "networks": {"eth0": {"rx_bytes": 1296, "rx_packets": 16, "tx_bytes": 648, "tx_packets": 8}},
    } | changed


class FakeEngine:
    """Answers ``answers`` by path, without the query: JSON, a status alone, or bytes as they are."""

    def __init__(self, path: Path, server: str = "Docker/27.3.1 (linux)") -> None:
        self.path = path
        self.server = server
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        self.connections = 0
        self.closes = False

    def has(self, its_listed: Any, its_details: Any, its_stats: Any) -> None:
        """Have one container more."""
        each = its_listed["Id"]
        self.answers.setdefault("/containers/json", []).append(its_listed)
        self.answers[f"/containers/{each}/json"] = its_details
        self.answers[f"/containers/{each}/stats"] = its_stats


@contextmanager
def running(engine: FakeEngine) -> Iterator[FakeEngine]:
    """Let it answer."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            engine.connections += 1

        def do_GET(self) -> None:
            engine.asked.append(self.path)
            answer = engine.answers.get(urlsplit(self.path).path, 404)
            status = answer if isinstance(answer, int) else 200
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = engine.closes

        def version_string(self) -> str:
            return engine.server

        def address_string(self) -> str:
            return "a client"

        def log_message(self, *_: object) -> None:
            pass

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True
        block_on_close = False

    server = Server(str(engine.path), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield engine
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        engine.path.unlink()
