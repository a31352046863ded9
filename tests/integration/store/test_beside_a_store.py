"""A hub with a store and a destination beside it, as its clients see it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest

from exporters.otlp.config import OtlpExporterConfig
from gateway.component import Signal
from gateway.config import PipelineSettings
from tests.support.databases import Database
from tests.support.hubs import running_hub, store_config
from tests.support.stores import settings
from tests.support.telemetry import logs, spans


@pytest.fixture
def picky() -> Iterator[str]:
    """A destination that refuses everything for good, as Prometheus does with what it cannot store."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(400)
            self.send_header("content-length", "4")
            self.end_headers()
            self.wfile.write(b"nope")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_the_other_refuses_is_no_matter_of_the_clients(native_database: Database, picky: str) -> None:
    config = store_config(settings(dsn=native_database.dsn))
    beside = PipelineSettings(receivers=["otlp"], exporters=["timescale", "otlp"])
    alone = PipelineSettings(receivers=["otlp"], exporters=["otlp"])
    pipelines = {Signal.LOGS: beside, Signal.TRACES: alone}
    config = dataclasses.replace(
        config,
        exporters={**config.exporters, "otlp": OtlpExporterConfig(endpoint=picky, protocol="http/protobuf")},
        service=config.service.model_copy(update={"pipelines": pipelines}),
    )
    with running_hub(config) as client:
        said = client.send("logs", logs("kept").payload)
        assert (said.rejected_log_records, said.error_message) == (0, "")
        assert native_database.run("SELECT body FROM logs") == [("kept",)]
        with pytest.raises(grpc.RpcError) as caught:  # which nobody else has
            client.send("traces", spans("refused").payload)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as caught:
            client.send("metrics", b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
