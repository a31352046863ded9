"""What jobs log, as OTLP as well: the same lines that go to standard error, each in its job's trace.

Only jobs, such as the runs of GitOps and pipelines. What the gateway logs of deliveries does not take this way: it
would speak of itself without end.
"""

from __future__ import annotations

import logging  # noqa: TID251 - listens below structlog, at the loggers of modules
import time
import traceback
from types import TracebackType
from typing import Any

from opentelemetry._logs import Logger, LogRecord, SeverityNumber

LOGGERS = ("gateway.extensions.gitops", "gateway.runs", "gateway.extensions.document_pipelines", "receivers.mongodb")
"""The loggers of jobs, by their modules."""

_NOT_ATTRIBUTES = {
    "event",
    "level",
    "logger",
    "timestamp",
    "trace_id",
    "span_id",
    "exc_info",
    "exception",
    "stack_info",
}


class JobLogs(logging.Handler):
    """Sends what is logged through an OpenTelemetry logger, from `attach` until `detach`."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._logger = logger

    def attach(self) -> None:
        """Begin to listen."""
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self)

    def detach(self) -> None:
        """Listen no more."""
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line. It belongs to the span that is current where it was logged."""
        try:
            self._logger.emit(_to_otlp(record))
        except Exception:
            self.handleError(record)


def _to_otlp(record: logging.LogRecord) -> LogRecord:
    # What comes by structlog is still a mapping here: the text and what belongs to it.
    fields: dict[str, Any] = dict(record.msg) if isinstance(record.msg, dict) else {}
    text = str(fields.get("event", "")) if fields else record.getMessage()
    attributes = {name: _plain(value) for name, value in fields.items() if name not in _NOT_ATTRIBUTES}
    attributes |= {"code.function.name": f"{record.name}.{record.funcName}"}
    attributes |= _of_exception(record.exc_info or fields.get("exc_info"))
    severity = _severity(record.levelno)
    return LogRecord(
        timestamp=int(record.created * 1e9),
        observed_timestamp=time.time_ns(),
        severity_text=severity.name,
        severity_number=severity,
        body=text,
        attributes={name: value for name, value in attributes.items() if value is not None},
    )


def _severity(level: int) -> SeverityNumber:
    """Return the severity of a level of Python's logging (OpenTelemetry, "Logs Data Model", appendix B)."""
    for lowest, severity in (
        (logging.CRITICAL, SeverityNumber.FATAL),
        (logging.ERROR, SeverityNumber.ERROR),
        (logging.WARNING, SeverityNumber.WARN),
        (logging.INFO, SeverityNumber.INFO),
    ):
        if level >= lowest:
            return severity
    return SeverityNumber.DEBUG


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [str(each) for each in value]
    return str(value)


def _of_exception(found: Any) -> dict[str, str]:
    """Return the attributes of an exception (OpenTelemetry semantic conventions, "Exceptions in logs")."""
    error = found[1] if isinstance(found, tuple) else found
    if not isinstance(error, BaseException):
        return {}
    where: TracebackType | None = error.__traceback__
    return {
        "exception.type": type(error).__qualname__,
        "exception.message": str(error),
        "exception.stacktrace": "".join(traceback.format_exception(type(error), error, where)),
    }
