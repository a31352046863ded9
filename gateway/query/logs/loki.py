"""Logs of Loki, read by its HTTP API as documented: ``GET /loki/api/v1/query_range``."""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Iterator
from typing import Any, Literal, Self

import httpx

from gateway.base.instants import SECOND
from gateway.net.loki import LokiAccess
from gateway.query.logs.records import (
    LogFilter,
    LogRecord,
    SourceError,
    TemporarySourceError,
    lowest_number,
    names_from,
    severity_range,
)

# Well below the 5000 that Loki gives at most unless told otherwise.
_PAGE = 1000
# Further ahead of now than Loki takes records: there is no way to ask for "up to the last".
_AHEAD = 1800 * SECOND


class LokiLogs:
    """The logs of a Loki that took them as OTLP.

    Loki's names of attributes have ``_`` for whatever is no letter or digit, and all of them are text. Whether one is a
    label or structured metadata makes no difference here, except that the service must be a label, as it is by default.
    """

    name = "loki"

    def __init__(self, access: LokiAccess, seconds: float = 60) -> None:
        """``seconds`` is how long one answer is waited for.

        Raises `SourceError` when the address or the CA file cannot be used.
        """
        self._access = access
        headers = dict(access.headers)
        if access.tenant:
            headers["X-Scope-OrgID"] = access.tenant
        if access.token:
            headers["Authorization"] = f"Bearer {access.token}"
        try:
            self._client = httpx.Client(
                base_url=access.url.rstrip("/"),
                headers=headers,
                auth=access.basic,
                verify=_tls(access),
                timeout=httpx.Timeout(seconds, connect=min(seconds, 5)),
            )
        except (httpx.InvalidURL, OSError) as error:
            raise SourceError(f"Loki at {access.shown} cannot be asked: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to it."""
        self._client.close()

    def latest(self, wanted: LogFilter, start: int, end: int, limit: int) -> list[LogRecord]:
        """Return the newest records, oldest first."""
        found: list[LogRecord] = []
        for page in self._pages(wanted, start, end, "backward", min(limit, _PAGE)):
            found += page
            if len(found) >= limit:
                break
        return found[:limit][::-1]

    def between(self, wanted: LogFilter, start: int, end: int | None) -> Iterator[LogRecord]:
        """Yield all records, oldest first."""
        for page in self._pages(wanted, start, end, "forward", _PAGE):
            yield from page

    def _pages(
        self, wanted: LogFilter, start: int, end: int | None, direction: Literal["forward", "backward"], size: int
    ) -> Iterator[list[LogRecord]]:
        """Yield records page by page. A page begins with the instant the last one ended in, which may have been cut."""
        query = log_query(wanted)
        latest = time.time_ns() + _AHEAD
        start, end = max(start, 0), latest if end is None else min(end, latest)
        at_edge: list[LogRecord] = []
        while start < end:
            page = self._page(query, start, end, direction, size)
            new = [record for record in page if record not in at_edge]
            yield new
            if len(page) < size:
                return
            edge = page[-1].time_unix_nano
            # More records in one instant than a page holds cannot be asked for: go on beyond it.
            full = page[0].time_unix_nano == edge
            if direction == "forward":
                start = edge + full
            else:
                end = edge + 1 - full
            at_edge = [record for record in page if record.time_unix_nano == edge]

    def _page(self, query: str, start: int, end: int, direction: str, size: int) -> list[LogRecord]:
        asked = {"query": query, "start": str(start), "end": str(end), "direction": direction, "limit": str(size)}
        where = f"Loki at {self._access.shown}"
        try:
            answer = self._client.get("/loki/api/v1/query_range", params=asked)
        except httpx.TransportError as error:
            raise TemporarySourceError(f"{where} cannot be reached: {error or type(error).__name__}") from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise SourceError(f"{where} cannot be asked: {error}") from error
        if answer.status_code != httpx.codes.OK:
            kind = TemporarySourceError if answer.status_code == 429 or answer.is_server_error else SourceError
            said = " ".join(answer.text.split())[:500]
            advice = _ADVICE.get(answer.status_code, "")
            raise kind(f"{where} answers {answer.status_code} {answer.reason_phrase}: {said}{advice}")
        try:
            found = list(_records(answer.json()))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise SourceError(f"{where} does not answer as Loki does; is it one?") from error
        return sorted(found, key=lambda record: record.time_unix_nano, reverse=direction == "backward")


def _tls(access: LokiAccess) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=access.ca_file)
    if access.cert_file is not None:
        context.load_cert_chain(access.cert_file, access.key_file)
    return context


_ADVICE = {
    401: " (name a tenant by --loki-tenant, or give a token in OBSHUB_LOKI_TOKEN)",
    403: " (give another token in OBSHUB_LOKI_TOKEN)",
    404: " (give the base URL of Loki, without a path of its API)",
}


def log_query(wanted: LogFilter) -> str:
    """Return what is asked for as LogQL. Whatever a user gave stands in it quoted."""
    services = wanted.services
    selector = f"service_name=~{_quoted(_any_of(services))}" if services else 'service_name=~".+"'
    stages = []
    if wanted.grep:
        stages.append(f"|~ {_quoted(('(?i)' if wanted.ignore_case else '') + wanted.grep)}")
    if wanted.trace_id:
        stages.append(f"| trace_id={_quoted(wanted.trace_id)}")
    if wanted.span_id:
        stages.append(f"| span_id={_quoted(wanted.span_id)}")
    if wanted.hosts:
        stages.append(f"| host_name=~{_quoted(_any_of(wanted.hosts))}")
    if wanted.events:
        stages.append(f"| event_name=~{_quoted(_any_of(wanted.events))}")
    elif wanted.events_only:
        stages.append('| event_name!=""')
    if wanted.severity:
        names = _quoted(f"(?i){_any_of(names_from(wanted.severity))}")
        stages.append(
            f"| (severity_number >= {lowest_number(wanted.severity)}"
            f' or (severity_number="" and (severity_text=~{names} or detected_level=~{names})))'
        )
    stages += [f"| {label_name(key)}={_quoted(value)}" for key, value in wanted.attributes]
    return " ".join([f"{{{selector}}}", *stages])


def label_name(key: str) -> str:
    """Return the name that Loki gives to an attribute."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", key)
    return f"key_{name}" if name[:1].isdigit() else name


def _any_of(values: tuple[str, ...] | list[str]) -> str:
    return "|".join(map(re.escape, values))


def _quoted(text: str) -> str:
    """Return a string of LogQL, which has those of Go: like those of JSON, without pairs of surrogates."""
    return json.dumps(text, ensure_ascii=False)


def _records(answer: Any) -> Iterator[LogRecord]:
    data = answer["data"]
    if data["resultType"] != "streams":
        raise ValueError(data["resultType"])
    for stream in data["result"]:
        for at, line, *more in stream["values"]:
            # Loki puts structured metadata among the labels of the stream unless it is asked to tell them apart.
            apart = more[0].get("structuredMetadata", {}) if more else {}
            yield _record(int(at), str(line), {**stream["stream"], **apart})


def _record(at: int, line: str, labels: dict[str, str]) -> LogRecord:
    for noise in ("__stream_shard__", "observed_timestamp", "flags"):
        labels.pop(noise, None)
    level = labels.pop("detected_level", None)
    number = labels.pop("severity_number", "0")
    severity_number = int(number) if number.isdigit() else 0
    severity = labels.pop("severity_text", None) or (severity_range(severity_number, level) or level or "").upper()
    service = labels.pop("service_name", None)
    return LogRecord(
        source="loki",
        time_unix_nano=at,
        body=line,
        severity_number=severity_number,
        severity=None if severity in ("", "UNKNOWN") else severity,
        service_name=None if service == "unknown_service" else service,
        host_name=labels.pop("host_name", None),
        scope_name=labels.pop("scope_name", None),
        event_name=labels.pop("event_name", None),
        trace_id=labels.pop("trace_id", None),
        span_id=labels.pop("span_id", None),
        attributes=labels,
    )
