"""What jobs log is sent as OTLP, with what belongs to it."""

from __future__ import annotations

import logging  # noqa: TID251 - the root logger's handlers are taken back
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from gateway import logs
from gateway.job_logs import JobLogs
from tests.support.operations import Told


class Sent:
    def __init__(self, exporter: InMemoryLogRecordExporter) -> None:
        self._exporter = exporter

    @property
    def records(self) -> list[Any]:
        return [data.log_record for data in self._exporter.get_finished_logs()]


@pytest.fixture
def sent() -> Iterator[Sent]:
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    root = logging.getLogger()
    before = (root.handlers, root.level)
    logs.configure("info", "json")
    handler = JobLogs(provider.get_logger("test"))
    handler.attach()
    try:
        yield Sent(exporter)
    finally:
        handler.detach()
        root.handlers, root.level = before
        structlog.reset_defaults()


def test_a_line_has_its_fields_its_severity_and_its_trace(sent: Sent) -> None:
    tracer = Told().operations.tracer
    with tracer.start_as_current_span("a run") as span:
        structlog.get_logger("gateway.runs.worker").warning(
            "run given up", name="home", attempt=2, why=["a", 1], no=None
        )
    (record,) = sent.records
    assert (record.body, record.severity_number) == ("run given up", SeverityNumber.WARN)
    assert record.trace_id == span.get_span_context().trace_id
    attributes = dict(record.attributes)
    assert attributes.pop("code.function.name").startswith("gateway.runs.worker.")
    assert attributes == {"name": "home", "attempt": 2, "why": ("a", "1")}


def test_an_exception_is_told_as_the_conventions_say(sent: Sent) -> None:
    try:
        raise ValueError("wrong")
    except ValueError:
        structlog.get_logger("gateway.extensions.gitops.service").exception("looking failed")
        logging.getLogger("receivers.mongodb.reading").exception("reading %s failed", "it")
    for record, body in zip(sent.records, ("looking failed", "reading it failed"), strict=True):
        assert (record.body, record.severity_number) == (body, SeverityNumber.ERROR)
        assert (record.attributes["exception.type"], record.attributes["exception.message"]) == ("ValueError", "wrong")
        assert "test_job_logs.py" in record.attributes["exception.stacktrace"]


def test_what_is_too_quiet_or_no_job_is_not_sent(sent: Sent) -> None:
    logging.getLogger("gateway.runs.worker").debug("a detail")
    logging.getLogger("gateway.pipeline.delivery").error("of a delivery")
    logging.getLogger("exporters.timescale").error("of an exporter")
    assert sent.records == []
