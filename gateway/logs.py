"""Structured logs on standard error: one JSON object a line, or coloured lines for a person at a terminal."""

from __future__ import annotations

import logging  # noqa: TID251 - libraries log by it, and what this project logs comes out by the same handler
import sys
from typing import Literal

import structlog

from gateway.terminal import guard_terminals, safe

Format = Literal["auto", "console", "json"]

# Libraries that say at INFO what their users say better; or at WARNING what is being retried anyway, or what a stranger
# can make them say without end; or at DEBUG what is nobody's business: hpack writes down headers, tokens among them.
_QUIETER = {
    "grpc": logging.WARNING,
    "hpack": logging.INFO,
    "httpx": logging.WARNING,
    "opentelemetry": logging.ERROR,
    "uvicorn": logging.ERROR,
}

_FIRST = ("timestamp", "level", "event", "logger")


def configure(level: str = "info", output: Format = "auto") -> None:
    """Send the logs of this process to standard error. ``auto`` is console on a terminal and JSON elsewhere."""
    guard_terminals()
    console = output == "console" or (output == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
    ]
    renderer: structlog.typing.Processor
    if console:
        # The default formatter shows the local variables of every frame, passwords among them.
        shared.append(_shown)
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    else:
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _in_order, renderer],
        )
    )
    # What is logged through structlog goes the same way; by itself it would be printed to standard output.
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name, its_level in _QUIETER.items():
        logging.getLogger(name).setLevel(max(its_level, root.level))


def _in_order(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Begin each line alike, so that people can read it, too."""
    return {name: line[name] for name in _FIRST if name in line} | dict(line)


def _shown(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Make what others said safe to show: names, reasons and what else a line is about."""
    return {safe(key): safe(value) if isinstance(value, str) else value for key, value in line.items()}


def _add_trace(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Name the trace that a line belongs to, as OpenTelemetry's logs in other formats do."""
    from opentelemetry.trace import format_span_id, format_trace_id, get_current_span  # which few commands need

    context = get_current_span().get_span_context()
    if context.is_valid:
        line.setdefault("trace_id", format_trace_id(context.trace_id))
        line.setdefault("span_id", format_span_id(context.span_id))
    return line
