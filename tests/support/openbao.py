"""A stand-in for OpenBao that answers the few requests we make as its HTTP API documents them."""

from __future__ import annotations

import json
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.certificates import Certificate


@dataclass
class StandIn:
    """What it holds, and how it behaves. ``reads`` counts the secrets that were asked for."""

    address: str = ""
    root_token: str = field(default_factory=lambda: uuid.uuid4().hex)
    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    kubernetes: dict[str, str] = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)
    lease: int = 3600
    sealed: bool = False
    instead: tuple[int, str] | None = None
    """What is answered instead by something else at its address, or in front of it: a status, and a body."""
    mount: str = "secret"
    version: int = 2
    """Of the KV store at the mount."""
    refusals: int = 0
    namespaces: set[str | None] = field(default_factory=set)
    """In which it was asked."""
    reads: int = 0
    logins: int = 0
    renewals: int = 0
    tokens: set[str] = field(default_factory=set)

    def answer(self, method: str, path: str, token: str | None, body: dict[str, Any]) -> tuple[int, Any]:
        if self.sealed:
            return 503, {"errors": ["Vault is sealed"]}
        if path == "auth/approle/login":
            known = self.roles.get(body["role_id"]) == body.get("secret_id")
            self.refusals += not known
            if self.refusals >= 5:  # its own threshold, for everybody who uses the role
                return 403, {"errors": ["permission denied"]}
            return self._log_in() if known else (400, {"errors": ["invalid role or secret ID"]})
        if path == "auth/kubernetes/login":
            known = self.kubernetes.get(body["role"]) == body.get("jwt")
            return self._log_in() if known else (403, {"errors": ["permission denied"]})
        if token != self.root_token and token not in self.tokens:
            return 403, {"errors": ["permission denied"]}
        if path == "auth/token/lookup-self":
            return 200, {"data": {"ttl": self.lease, "renewable": True}}
        if path == "auth/token/renew-self":
            self.renewals += 1
            return 200, {"auth": {"client_token": token, "lease_duration": self.lease, "renewable": True}}
        if path == f"sys/internal/ui/mounts/{self.mount}":
            return 200, {"data": {"type": "kv", "options": {"version": str(self.version)}}}
        if method == "GET" and self.version == 2 and path.startswith(f"{self.mount}/data/"):
            self.reads += 1
            name = path.removeprefix(f"{self.mount}/data/")
            if name in self.forbidden:
                return 403, {"errors": ["1 error occurred: permission denied"]}
            if name in self.secrets:
                return 200, {"data": {"data": self.secrets[name], "metadata": {"version": 1}}}
        return 404, {"errors": []}

    def _log_in(self) -> tuple[int, Any]:
        self.logins += 1
        token = uuid.uuid4().hex
        self.tokens.add(token)
        return 200, {"auth": {"client_token": token, "lease_duration": self.lease, "renewable": True}}


@contextmanager
def stand_in(certificate: Certificate | None = None) -> Iterator[StandIn]:
    """Run one for the length of a block, over TLS if it is given a certificate."""
    state = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            path = self.path.partition("?")[0].removeprefix("/v1/")
            state.namespaces.add(self.headers.get("x-vault-namespace"))
            status, answer = state.answer(self.command, path, self.headers.get("x-vault-token"), body)
            text = json.dumps(answer).encode()
            if state.instead is not None:
                status, text = state.instead[0], state.instead[1].encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate.cert, certificate.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        state.address = state.address.replace("http", "https")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
