"""A trace comes out of the store as it went in, where Grafana's Tempo data source asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar import Litestar
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from exporters.timescale import values
from gateway.component import Batch, Signal
from gateway.extensions.api.queries import Queries
from gateway.extensions.api.tempo import tempo_route
from gateway.query.config import QuerySettings
from gateway.query.service import QueryService
from gateway.query.traces.otlp import any_value
from tests.support.databases import Database, Server, fresh_store
from tests.support.otlp_strategies import any_values
from tests.support.stores import running_exporter, store
from tests.support.telemetry import now, set_attributes

TRACE = bytes(range(16))


def request() -> ExportTraceServiceRequest:
    """Two resources and three scopes, of which one has neither a name nor anything else."""
    made = ExportTraceServiceRequest()
    for service in ("web", "db"):
        owner = made.resource_spans.add(schema_url=f"https://example.com/{service}")
        set_attributes(owner.resource.attributes, {"service.name": service})
        for scope in ("lib", None) if service == "web" else ("driver",):
            place = owner.scope_spans.add()
            if scope is not None:
                place.scope.name, place.scope.version = scope, "1.0"
            span = place.spans.add(
                trace_id=TRACE,
                span_id=f"{service}{scope}".encode()[:8].ljust(8, b"-"),
                name=f"{service} {scope}",
                kind=2,
            )
            span.start_time_unix_nano, span.end_time_unix_nano = now() - 10**9 + 123, now() + 456
            span.trace_state, span.flags = "a=b", 257
            span.attributes.add(key="double").value.double_value = 5
            span.attributes.add(key="int").value.int_value = 5
            event = span.events.add(name="exception", time_unix_nano=now(), dropped_attributes_count=1)
            set_attributes(event.attributes, {"exception.type": "E"})
            span.links.add(trace_id=b"t" * 16, span_id=b"s" * 8, trace_state="c=d", flags=1)
            span.status.code, span.status.message = 2, "failed"
            span.parent_span_id = b"p" * 8 if service == "db" else b""
    return made


class Tempo:
    def __init__(self, database: Database) -> None:
        self.queries = Queries(QueryService(QuerySettings(), lambda: database.dsn))
        self._app: Any = Litestar([tempo_route(self.queries)], logging_config=None)

    def get(self, path: str, **headers: str) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://hub/tempo/api") as client:
                return await client.get(path, headers={"accept": "application/protobuf", **headers})

        return asyncio.run(run())


@pytest.fixture(scope="module")
def sent() -> ExportTraceServiceRequest:
    return request()


@pytest.fixture(scope="module")
def tempo(embedded_server: Server, sent: ExportTraceServiceRequest) -> Iterator[Tempo]:
    async def fill(database: Database) -> None:
        async with running_exporter(database) as exporter:
            await store(exporter, Batch.of(Signal.TRACES, sent.SerializeToString()))

    with fresh_store(embedded_server) as database:
        asyncio.run(fill(database))
        tempo = Tempo(database)
        yield tempo
        tempo.queries.close()


def spans(data: Any) -> dict[str, Any]:
    """Each span with what it belongs to, by its name."""
    return {
        span.name: (str(owner.resource), owner.schema_url, place.scope.name, place.scope.version, span)
        for owner in data.resource_spans
        for place in owner.scope_spans
        for span in place.spans
    }


def ordered(span: Any) -> Any:
    copied = type(span)()
    copied.CopyFrom(span)
    attributes = sorted(copied.attributes, key=lambda pair: pair.key)
    del copied.attributes[:]
    copied.attributes.extend(attributes)
    return copied


@pytest.mark.parametrize("its_id", [TRACE.hex(), TRACE.hex().upper(), TRACE.hex().lstrip("0")])
def test_a_trace_comes_back_as_it_was_sent(tempo: Tempo, sent: ExportTraceServiceRequest, its_id: str) -> None:
    answer = tempo.get(f"traces/{its_id}?start=1&end=2")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/protobuf"
    found = TracesData.FromString(answer.content)
    mine, theirs = spans(found), spans(sent)
    assert mine.keys() == theirs.keys()
    for name, (*owner, span) in theirs.items():
        assert mine[name][:-1] == tuple(owner)
        assert ordered(mine[name][-1]) == ordered(span)
    assert all(place.HasField("scope") for owner in found.resource_spans for place in owner.scope_spans)
    assert len(found.resource_spans) == 2


def test_grafana_finds_its_way(tempo: Tempo) -> None:
    assert tempo.get("echo").text == "echo"
    assert tempo.get(f"v2/traces/{TRACE.hex()}").status_code == 404
    unknown = tempo.get("traces/1234")
    assert unknown.status_code == 404
    assert "0" * 28 + "1234" in unknown.text
    assert tempo.get("traces/xyz").status_code == 400
    as_json = tempo.get(f"traces/{TRACE.hex()}", accept="application/json").json()
    assert len(as_json["resourceSpans"]) == 2


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_values_come_back_as_they_were_stored(data: st.DataObject) -> None:
    value = data.draw(any_values)
    written = values.any_value_json(value)
    assert values.any_value_json(any_value(msgspec.json.decode(written))) == written
