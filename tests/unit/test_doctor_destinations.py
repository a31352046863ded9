"""What the doctor says of destinations besides the store."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from exporters.loki.config import LokiConfig
from exporters.otlp.config import OtlpExporterConfig
from gateway.cli.doctor import _api_health, _examine_destination, _http_answer
from gateway.component import UnavailableError
from tests.integration.cli.processes import free_port
from tests.support.loki import StandInLoki


@pytest.fixture
def loki() -> Iterator[StandInLoki]:
    loki = StandInLoki()
    yield loki
    loki.stop()


@pytest.mark.parametrize(
    ("answer", "ok", "said"),
    [
        (None, True, "answers"),
        (422, True, "answers"),  # what Loki says to a request without a stream
        (401, False, "set tenant_id, basic_auth or bearer_token"),
        (404, False, "must be the base URL of a Loki"),
        (429, None, "told to answer so"),
        (503, None, "told to answer so"),
    ],
)
def test_a_loki_is_asked_as_the_exporter_would(
    loki: StandInLoki, answer: int | None, ok: bool | None, said: str
) -> None:
    loki.answer = answer
    settings = LokiConfig.model_validate({"endpoint": loki.url, "tenant_id": "home"})
    finding = _examine_destination("loki", settings)
    assert (finding.ok, finding.subject) == (ok, "exporter loki")
    assert said in finding.detail
    assert loki.requests[0]["x-scope-orgid"] == "home"
    assert not loki.entries


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_destination_that_nobody_listens_at_is_told_with_what_becomes_of_the_data(protocol: str) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    settings = OtlpExporterConfig.model_validate({"endpoint": endpoint, "protocol": protocol, "timeout": "2s"})
    finding = _examine_destination("otlp/tempo", settings)
    assert finding.ok is False
    assert "exporters.otlp/tempo" in finding.advice
    assert "waits in the spool" in finding.advice


@contextmanager
def answering(status: int, kind: str, body: bytes, **headers: str) -> Iterator[str]:
    """A server that answers all that it is asked with the same, for the length of a block."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            for name, value in {"content-type": kind, "content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


PAGE = b"<html><title>Welcome</title></html>"


@pytest.mark.parametrize("ask", [_http_answer, _api_health])
def test_a_page_of_somebody_else_is_not_taken_for_the_hub(ask: Callable[[str], str]) -> None:
    """It listens where the hub is said to, and answers 200 to everything."""
    with answering(200, "text/html", PAGE) as address, pytest.raises((OSError, UnavailableError)):
        ask(address)
    with answering(200, "application/json", b"[]") as address, pytest.raises((OSError, UnavailableError)):
        ask(address)


def test_only_a_hub_is_said_to_ask_for_a_token() -> None:
    with answering(401, "text/html", PAGE) as address, pytest.raises(OSError, match="answers 401"):
        _http_answer(address)
    challenge = {"www-authenticate": 'Bearer realm="obs-hub"'}
    with answering(401, "application/x-protobuf", b"", **challenge) as address:
        assert _http_answer(address).startswith("serving, and asks for a token")


def test_what_answers_as_a_hub_does_is_well() -> None:
    with answering(200, "application/x-protobuf", b"") as address:
        assert _http_answer(address) == "serving"
    with answering(200, "application/json", b'{"status": "up"}') as address:
        assert _api_health(address) == "serving the page"
