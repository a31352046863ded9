"""The table of journal fields: which attribute each becomes, and what the priorities mean.

Sources: the OpenTelemetry semantic conventions 1.44 where they have a name; the logs data model, Appendix A,
"systemd-journald" and "RFC5424 Syslog" (``syslog.*``, ``journald.*``), and Appendix B for severities. ``systemd.*`` is
in none of them: units, boots and invocations are what people look for by name. Unlike Appendix A, the process is told
in the record's attributes: in the resource, each process ever started would make a resource of its own.
"""

from __future__ import annotations

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
SCOPE: Final = "obs_hub.journald"

ATTRIBUTES: Final[dict[str, str]] = {
    "_SYSTEMD_UNIT": "systemd.unit",
    "_SYSTEMD_USER_UNIT": "systemd.user_unit",
    "_SYSTEMD_INVOCATION_ID": "systemd.invocation_id",
    "_BOOT_ID": "systemd.boot_id",
    "SYSLOG_IDENTIFIER": "syslog.identifier",
    "SYSLOG_FACILITY": "syslog.facility.code",
    "SYSLOG_PID": "syslog.pid",
    "_PID": "process.pid",
    "_UID": "process.user.id",
    "_COMM": "process.executable.name",
    "_EXE": "process.executable.path",
    "_CMDLINE": "process.command_line",
    "TID": "thread.id",
    "CODE_FILE": "code.file.path",
    "CODE_LINE": "code.line.number",
    "CODE_FUNC": "code.function.name",
    "_TRANSPORT": "journald.transport",
    "MESSAGE_ID": "journald.message_id",
}
"""Attributes of the log record."""

NUMBERS: Final = frozenset(
    {"syslog.facility.code", "syslog.pid", "process.pid", "process.user.id", "thread.id", "code.line.number"}
)
"""Those that are integers; the journal keeps everything as text."""

RESOURCE: Final[dict[str, str]] = {
    "_HOSTNAME": "host.name",
    "_MACHINE_ID": "host.id",
    "CONTAINER_NAME": "container.name",
    "CONTAINER_ID_FULL": "container.id",
    "IMAGE_NAME": "container.image.name",
}
"""Attributes of the resource, besides ``service.name``. The last three are what Docker's journald driver writes."""

OTHERS: Final = (
    "MESSAGE",
    "PRIORITY",
    "_SOURCE_REALTIME_TIMESTAMP",
    "_SOURCE_MONOTONIC_TIMESTAMP",
    "UNIT",
    "USER_UNIT",
    "COREDUMP_UNIT",
    "COREDUMP_USER_UNIT",
    "TRACE_ID",
    "SPAN_ID",
    "TRACE_FLAGS",
)
"""Fields that become something else than an attribute."""

ORIGINAL_SIZE: Final = "journald.message_size"
"""Bytes of a message that was cut."""

PRIORITIES: Final = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
"""The names of the journal's priorities 0 to 7."""

SEVERITIES: Final = (21, 19, 18, 17, 13, 10, 9, 5)
"""The severity number of each priority."""

LEVELS: Final[dict[str, int]] = {
    "trace": 1,
    "debug": 5,
    "info": 9,
    "information": 9,
    "informational": 9,
    "notice": 10,
    "warn": 13,
    "warning": 13,
    "err": 17,
    "error": 17,
    "severe": 17,
    "crit": 18,
    "critical": 18,
    "dpanic": 18,
    "alert": 19,
    "panic": 19,
    "fatal": 21,
    "emerg": 21,
    "emergency": 21,
}
"""The severity number of each level that JSON messages name, in lower case."""

NUMERIC_LEVELS: Final[dict[int, int]] = {10: 1, 20: 5, 30: 9, 40: 13, 50: 17, 60: 21}
"""The severity numbers of the levels that pino and bunyan write."""


def attribute_of(field: str) -> str:
    """Return the attribute that a field without a name in the table becomes."""
    return f"journald.{field.lstrip('_').lower()}"
