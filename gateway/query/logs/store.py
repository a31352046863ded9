"""Logs of the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, LiteralString

from gateway.base.instants import from_unix_nano
from gateway.query.errors import StoreAwayError
from gateway.query.logs.records import (
    LogFilter,
    LogRecord,
    TemporarySourceError,
    lowest_number,
    names_from,
)
from gateway.query.store import Row, Store

_COLUMNS: LiteralString = (
    "SELECT time_unix_nano, body, body_json, severity, severity_number, service_name, host_name, scope_name,"
    " event_name, trace_id, span_id, attributes, resource FROM logs WHERE time >= %(start)s"
)

_CONDITIONS: dict[str, LiteralString] = {
    "end": "time < %(end)s",
    "services": "service_name = ANY(%(services)s)",
    "hosts": "host_name = ANY(%(hosts)s)",
    "severity": "(severity_number >= %(severity)s"
    " OR severity_number = 0 AND lower(severity) = ANY(%(severity_names)s))",
    "grep": "coalesce(body, '') ~ %(grep)s",
    "events_only": "event_name IS NOT NULL",
    "events": "event_name = ANY(%(events)s)",
    "trace_id": "trace_id = %(trace_id)s",
    "span_id": "span_id = %(span_id)s",
}


class StoreLogs:
    """The ``logs`` of a store."""

    name = "store"

    def __init__(self, store: Store) -> None:
        self._store = store

    def latest(self, wanted: LogFilter, start: int, end: int, limit: int) -> list[LogRecord]:
        """Return the newest records, oldest first."""
        statement, parameters = _query(wanted, start, end)
        rows = self._stream(
            statement + " ORDER BY time DESC, time_unix_nano DESC LIMIT %(limit)s", parameters | {"limit": limit}
        )
        return sorted(rows, key=lambda record: record.time_unix_nano)

    def between(self, wanted: LogFilter, start: int, end: int | None) -> Iterator[LogRecord]:
        """Yield all records, oldest first."""
        statement, parameters = _query(wanted, start, end)
        yield from self._stream(statement + " ORDER BY time, time_unix_nano", parameters)

    def _stream(self, statement: LiteralString, parameters: dict[str, Any]) -> Iterator[LogRecord]:
        try:
            for row in self._store.stream(statement, parameters):
                yield _record(row)
        except StoreAwayError as error:
            raise TemporarySourceError(str(error)) from error


def _query(wanted: LogFilter, start: int, end: int | None) -> tuple[LiteralString, dict[str, Any]]:
    parameters: dict[str, Any] = {"start": from_unix_nano(start)}
    if end is not None:
        parameters["end"] = from_unix_nano(end)
    for name in ("services", "hosts", "events"):
        if values := getattr(wanted, name):
            parameters[name] = list(values)
    for name in ("events_only", "trace_id", "span_id"):
        if value := getattr(wanted, name):
            parameters[name] = value
    if wanted.severity:
        parameters |= {"severity": lowest_number(wanted.severity), "severity_names": names_from(wanted.severity)}
    if wanted.grep:
        parameters["grep"] = ("(?i)" if wanted.ignore_case else "") + wanted.grep
    conditions = [condition for name, condition in _CONDITIONS.items() if name in parameters]
    statement = " AND ".join([_COLUMNS, *conditions])
    if wanted.attributes:
        keys, values = zip(*wanted.attributes, strict=True)
        parameters |= {"keys": list(keys), "values": list(values)}
        statement += (
            " AND NOT EXISTS (SELECT FROM unnest(%(keys)s::text[], %(values)s::text[]) AS asked (key, value)"
            " WHERE coalesce(attributes ->> key, resource ->> key) IS DISTINCT FROM value)"
        )
    return statement, parameters  # pyright: ignore[reportReturnType] - of literals all the same


def _record(row: Row) -> LogRecord:
    structured = row.pop("body_json")
    body = row.pop("body")
    return LogRecord(
        source="store",
        time_unix_nano=int(row.pop("time_unix_nano")),
        body=(body if body is not None else "") if structured is None else structured,
        resource=row.pop("resource") or {},
        **row,
    )
