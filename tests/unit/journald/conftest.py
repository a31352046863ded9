"""Journals to read, and a destination that answers as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from receivers.journald.config import JournaldConfig
from tests.support.journals import Journal, RealJournal, StandInJournal, real_is_here

Answer = Callable[[bytes, grpc.ServicerContext], bytes]


class Destination:
    """An OTLP server that keeps what it acknowledged. ``answer`` is what it does with a request; it may abort."""

    def __init__(self) -> None:
        self.accepted: list[bytes] = []
        self.attempts = 0
        self.answer: Answer = lambda *_: b""
        self.changed = threading.Condition()
        server = grpc.server(ThreadPoolExecutor(2))
        server.add_generic_rpc_handlers((self._Handler(self),))
        self.port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self.stop = lambda: server.stop(None).wait()

    class _Handler(grpc.GenericRpcHandler):
        def __init__(self, owner: Destination) -> None:
            self._owner = owner

        def service(self, _: grpc.HandlerCallDetails) -> Any:
            return grpc.unary_unary_rpc_method_handler(self._owner._export)

    def _export(self, payload: bytes, context: grpc.ServicerContext) -> bytes:
        self.attempts += 1
        answer = self.answer(payload, context)
        with self.changed:
            self.accepted.append(payload)
        return answer

    @property
    def records(self) -> list[LogRecord]:
        return [record for payload in list(self.accepted) for record in records_of(payload)]

    @property
    def bodies(self) -> list[str]:
        return [record.body.string_value for record in self.records]


def records_of(payload: bytes) -> list[LogRecord]:
    request = ExportLogsServiceRequest.FromString(payload)
    return [
        record for resource in request.resource_logs for scope in resource.scope_logs for record in scope.log_records
    ]


@pytest.fixture
def destination() -> Iterator[Destination]:
    server = Destination()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def stand_in(tmp_path: Path) -> StandInJournal:
    return StandInJournal(tmp_path / "journal")


@pytest.fixture
def real(tmp_path: Path) -> RealJournal:
    if not real_is_here():
        pytest.skip("journalctl and systemd-journal-remote are not both installed")
    return RealJournal(tmp_path / "journal")


@pytest.fixture(params=["stand_in", "real"])
def journal(request: pytest.FixtureRequest) -> Journal:
    """Each kind of journal in turn."""
    journal: Journal = request.getfixturevalue(request.param)
    return journal


@pytest.fixture
def config(destination: Destination) -> Callable[..., JournaldConfig]:
    """Settings that read a journal, from its beginning, and send to the destination, without waiting for long."""

    def make(journal: Journal, **settings: Any) -> JournaldConfig:
        return JournaldConfig.model_validate(
            {
                "directory": journal.directory,
                "journalctl_path": journal.journalctl,
                "start_at": "beginning",
                "endpoint": f"http://127.0.0.1:{destination.port}",
                "batch": {"timeout": "50ms"},
                "retry_on_failure": {"initial_interval": "20ms", "max_interval": "100ms"},
                **settings,
            }
        )

    return make
