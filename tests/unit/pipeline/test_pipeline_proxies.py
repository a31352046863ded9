"""A proxy that the environment names is for other machines."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import grpc
import pytest

from gateway.net.proxies import channel_options, is_local
from tests.support.waiting import PATIENCE


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("127.0.0.1:4317", True),
        ("localhost:4317", True),
        ("http://localhost:4318/v1/metrics", True),
        ("https://[::1]:4317", True),
        ("[::1]:4317", True),
        ("http://127.9.9.9", True),
        ("hub.example:4317", False),
        ("http://10.0.0.1:4317", False),
        ("http://localhost.example:4317", False),
        ("", False),
        ("http://[::1:4317", False),
    ],
)
def test_which_endpoints_are_on_this_machine(endpoint: str, local: bool) -> None:
    assert is_local(endpoint) is local


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """A proxy that the environment names, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(1000))

        threading.Thread(target=listen, daemon=True).start()
        for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield asked


def test_grpc_reaches_this_machine_past_the_proxy(proxy: list[bytes]) -> None:
    server = grpc.server(None)  # type: ignore[arg-type] - it has no method to run
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    endpoint = f"127.0.0.1:{port}"
    answers = []
    try:
        for options in (channel_options(endpoint), ()):
            with grpc.insecure_channel(endpoint, options) as channel, pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/any")(b"", timeout=PATIENCE)
            answers.append(caught.value.code())
    finally:
        server.stop(None)
    assert answers == [grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE]
    assert proxy[0].startswith(b"CONNECT " + endpoint.encode()), "without the options it is asked"
