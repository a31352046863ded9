"""Whether the gateway is ready, by what a real HTTP server answers, or does not."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.extensions.gate.readiness import READY, Hysteresis, ask
from tests.support.certificates import Authority
from tests.support.waiting import PATIENCE


@contextmanager
def answering(
    *pieces: bytes, pause: float = 0.0, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers every request with these bytes; yields its URL and the requests it got."""
    requests: list[bytes] = []
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            try:
                connection, _ = listener.accept()
                if tls is not None:
                    connection = tls.wrap_socket(connection, server_side=True)
            except ssl.SSLError:
                continue
            except OSError:
                return
            with connection:
                requests.append(connection.recv(65536))
                try:
                    for piece in pieces:
                        connection.sendall(piece)
                        if ended.wait(pause):
                            return
                except OSError:
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http{'' if tls is None else 's'}://127.0.0.1:{listener.getsockname()[1]}", requests
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


def response(status: str, body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body


def test_a_gateway_that_is_ready_is_asked_strictly() -> None:
    with answering(response("200 OK")) as (url, requests):
        assert ask(url, 10) == READY
    assert requests[0].startswith(b"GET /api/v1/ready?strict=true HTTP/1.1")


def test_over_tls_the_certificate_is_checked_unless_told_otherwise(tmp_path: Path) -> None:
    certificate = Authority(tmp_path, "ca").issue("gateway")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.cert, certificate.key)
    with answering(response("200 OK"), tls=context) as (url, requests):
        answer = ask(url, 10)
        assert not answer.ready
        assert "CERTIFICATE_VERIFY_FAILED" in answer.reason
        assert requests == []
        assert ask(url.replace("https:", "https+insecure:"), 10) == READY


def test_the_reason_names_what_is_not_well() -> None:
    dependencies = [
        {"name": "receivers", "state": "ok", "detail": ""},
        {"name": "store", "state": "down", "detail": "it does not answer"},
    ]
    body = json.dumps({"status": "degraded", "dependencies": dependencies}).encode()
    with answering(response("503 Service Unavailable", body)) as (url, _):
        answer = ask(url, 10)
    assert not answer.ready
    assert answer.reason == "the gateway answers 503: store is down (it does not answer)"


@pytest.mark.parametrize(
    "status", ["204 No Content", "302 Found", "401 Unauthorized", "404 Not Found", "500 Internal Server Error"]
)
def test_any_other_status_is_not_ready(status: str) -> None:
    with answering(response(status, b"{oops")) as (url, _):
        assert ask(url, 10).ready is False


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    answer = ask(f"http://127.0.0.1:{port}", 10)
    assert not answer.ready
    assert "cannot be asked" in answer.reason


def test_what_is_not_http() -> None:
    with answering(b"SSH-2.0-OpenSSH\r\n") as (url, _):
        assert not ask(url, 10).ready


def test_an_answer_that_trickles_in_is_no_answer() -> None:
    with answering(b"HTTP/1.1 200 OK\r\n", *[b"x-a: b\r\n"] * 2000, pause=0.02) as (url, _):
        answer = ask(url, 0.5)
    assert answer.reason == "the gateway did not answer within 0.5 s"


def test_it_takes_answers_in_a_row_to_open_and_to_close() -> None:
    gate = Hysteresis(open_after=3, close_after=2)
    answers = [True, True, False, True, True, True, False, True, False, False, True, True, True]
    opened = [gate.note(ready=ready) for ready in answers]
    assert opened == [False] * 5 + [True] * 4 + [False] * 3 + [True]
