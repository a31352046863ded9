"""Where metrics go, and what is said when they cannot."""

import gzip
import logging  # noqa: TID251 - the SDK logs by it
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.resources import Resource

from gateway.net.destination import Destination, DestinationError
from receivers.hostmetrics.collector import Collector
from receivers.hostmetrics.config import HostMetricsConfig
from receivers.hostmetrics.conventions import UPTIME
from receivers.hostmetrics.sender import Sender, destination
from receivers.hostmetrics.sensor import Observation, Sensor
from tests.support.logged import Logged

SDK_LOGGER = "opentelemetry.exporter.otlp.proto.grpc.exporter"


def to(environ: dict[str, str] | None = None, **settings: Any) -> Destination:
    return destination(HostMetricsConfig.model_validate(settings), environ or {})


def some_metrics() -> MetricsData:
    return Collector([Sensor("uptime", lambda: [Observation(UPTIME, 1.5)])], Resource({"host.name": "nas"})).collect()


def test_without_settings_and_variables_it_is_this_machine() -> None:
    assert to() == Destination("grpc", "http://127.0.0.1:4317", {}, 10)
    assert to(protocol="http/protobuf").endpoint == "http://127.0.0.1:4318/v1/metrics"


@pytest.mark.parametrize(
    ("environ", "protocol", "endpoint"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1"}, "grpc", "http://a:1"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://b:2"},
            "grpc",
            "http://b:2",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1/base/", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            "http/protobuf",
            "http://a:1/base/v1/metrics",
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://b:2/as/it/is",
                "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            "http/protobuf",
            "http://b:2/as/it/is",
        ),
    ],
)
def test_the_standard_variables(environ: dict[str, str], protocol: str, endpoint: str) -> None:
    found = to(environ)
    assert (found.protocol, found.endpoint) == (protocol, endpoint)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            "OTEL_EXPORTER_OTLP_ENDPOINT: expected a URL such as http://127.0.0.1:4317",
        ),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://"}, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: expected a URL"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL is http/json; expected grpc or"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "10s"}, "OTEL_EXPORTER_OTLP_TIMEOUT: expected seconds"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "-1"}, "OTEL_EXPORTER_OTLP_TIMEOUT: expected seconds"),
    ],
)
def test_what_cannot_be_used_is_named(environ: dict[str, str], message: str) -> None:
    with pytest.raises(DestinationError, match=re.escape(message)):
        to(environ)


def test_headers_of_the_environment_are_decoded() -> None:
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20abc, x-tenant = cellar,\n"}
    assert to(environ).headers == {"authorization": "Bearer abc", "x-tenant": "cellar"}


@pytest.mark.parametrize(
    "headers", ["authorization", "Bearer s3cret", "a b=s3cret", "x=1,y=s3cret%0A%0Dz", "x=s3cr\u00e9t", "x=s3cret\x00a"]
)
def test_headers_that_cannot_be_sent_are_not_told(headers: str, logged: Logged) -> None:
    with pytest.raises(DestinationError, match="OTEL_EXPORTER_OTLP_HEADERS, header") as raised:
        to({"OTEL_EXPORTER_OTLP_HEADERS": headers})
    assert "s3cr" not in str(raised.value) + logged.text


def test_settings_win_over_variables() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://b:2",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "3",
    }
    found = to(environ, endpoint="https://hub:4317", protocol="grpc", timeout="4s", headers={"X-A": "b"})
    assert found == Destination("grpc", "https://hub:4317", {"x-a": "b"}, 4)
    assert to(environ, endpoint="http://hub:4318").endpoint == "http://hub:4318/v1/metrics"
    assert to(environ, endpoint="http://hub:4318/v1/metrics").endpoint == "http://hub:4318/v1/metrics"


def test_a_grpc_endpoint_may_have_no_scheme_and_is_then_encrypted_unless_told_otherwise() -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "hub:4317"}
    assert to(variables).endpoint == "https://hub:4317"
    assert to(variables | {"OTEL_EXPORTER_OTLP_INSECURE": "true"}).endpoint == "http://hub:4317"


def test_an_export_never_takes_longer_than_the_interval() -> None:
    assert to({"OTEL_EXPORTER_OTLP_TIMEOUT": "3"}).timeout == 3
    assert to({"OTEL_EXPORTER_OTLP_TIMEOUT": "3"}, collection_interval="2s").timeout == 2
    assert to(timeout="1h").timeout == 15


def test_a_protocol_nobody_speaks_is_an_error() -> None:
    with pytest.raises(ValueError, match="http/json; expected grpc or http/protobuf"):
        to({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"})


def test_an_endpoint_that_was_not_validated_is_an_error_all_the_same() -> None:
    with pytest.raises(ValueError, match="expected a URL such as"):
        destination(HostMetricsConfig().model_copy(update={"endpoint": "hub:4317"}), {})


def test_headers_are_sent(sink: Any) -> None:
    sender = Sender(to(endpoint=sink.endpoint, headers={"Authorization": "Bearer abc"}))
    assert sender.send(some_metrics())
    sender.close()
    assert sink.metadata[0]["authorization"] == "Bearer abc"


def test_headers_may_come_from_the_environment(sink: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=cellar")
    sender = Sender(to(endpoint=sink.endpoint))
    assert sender.send(some_metrics())
    sender.close()
    assert sink.metadata[0]["x-tenant"] == "cellar"


def test_an_outage_is_logged_once_with_its_reason_and_so_is_its_end(sink: Any, logged: Logged) -> None:
    sender = Sender(to(endpoint=sink.endpoint))
    sink.refusing = True
    for _ in range(3):
        assert not sender.send(some_metrics())
        assert sender.failing
    (line,) = logged.entries
    assert line["event"].startswith("host metrics cannot be sent")
    assert line["to"] == sink.endpoint
    assert "nothing is taken here" in line["reason"]

    sink.refusing = False
    for _ in range(2):
        assert sender.send(some_metrics())
        assert not sender.failing
    sender.close()
    again = {"event": "host metrics are sent again", "to": sink.endpoint, "collections_dropped": 3}
    assert logged.entries[1:] == [again | {"log_level": "info"}]
    assert len(sink.requests) == 2, "what could not be sent was dropped"


def test_what_other_threads_log_of_their_exports_is_not_withheld(
    sink: Any, caplog: pytest.LogCaptureFixture, logged: Logged
) -> None:
    sender = Sender(to(endpoint=sink.endpoint))
    data = some_metrics()

    class Exporting:
        def export(self, _: MetricsData) -> None:
            other = threading.Thread(target=lambda: logging.getLogger(SDK_LOGGER).error("of another thread"))
            other.start()
            other.join()
            logging.getLogger(SDK_LOGGER).error("of this thread")

    real, sender._exporter = sender._exporter, Exporting()  # type: ignore[assignment]
    assert not sender.send(data)
    assert caplog.messages == ["of another thread"]
    assert [entry["reason"] for entry in logged.entries] == ["of this thread"]
    real.shutdown()


def test_an_export_that_raises_is_an_outage(sink: Any, logged: Logged) -> None:
    sender = Sender(to(endpoint=sink.endpoint))

    class Raising:
        def export(self, _: MetricsData) -> None:
            raise ValueError("Cannot invoke RPC on closed channel!")

    real, sender._exporter = sender._exporter, Raising()  # type: ignore[assignment]
    assert not sender.send(some_metrics())
    assert logged.entries[0]["reason"] == "ValueError: Cannot invoke RPC on closed channel!"
    real.shutdown()


@pytest.fixture
def http_sink() -> Iterator[ThreadingHTTPServer]:
    """An HTTP server that keeps what is posted to it, in ``requests``: path, headers, body."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.server.requests.append((self.path, self.headers, body))  # type: ignore[attr-defined]
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_http(http_sink: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    endpoint = f"http://127.0.0.1:{http_sink.server_address[1]}"
    sender = Sender(to(endpoint=endpoint, protocol="http/protobuf", headers={"x-tenant": "cellar"}))
    assert sender.send(some_metrics())
    sender.close()
    ((path, headers, body),) = http_sink.requests
    assert (path, headers["x-tenant"], headers["content-encoding"]) == ("/v1/metrics", "cellar", "gzip")
    request = ExportMetricsServiceRequest.FromString(gzip.decompress(body))
    assert request.resource_metrics[0].scope_metrics[0].metrics[0].name == "system.uptime"
