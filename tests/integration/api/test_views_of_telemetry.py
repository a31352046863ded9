"""Logs, traces, events and runs on the page: found by what stands in the URL, and linked to each other."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from html import unescape
from itertools import count

import httpx
import pytest
import yaml
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gateway.component import Batch, Signal
from tests.faults.harness import until
from tests.integration.api.conftest import Front, start
from tests.integration.cli.processes import config_text, free_port, hubs
from tests.support.databases import Database
from tests.support.loki_queries import loki_stand_in
from tests.support.stores import running_exporter, store
from tests.support.telemetry import SECOND, logs, now, set_attributes, spans

HTML = {"accept": "text/html"}
_traces = count(0x1000)


@pytest.fixture
def client(front: Front) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=front.url, headers=HTML, timeout=60, trust_env=False) as client:
        yield client


def keep(front: Front, *batches: Batch) -> None:
    async def keep_all() -> None:
        async with running_exporter(front.database) as exporter:
            await store(exporter, *batches)

    asyncio.run(keep_all())


def page(client: httpx.Client, path: str, **parameters: str) -> str:
    answer = client.get(path, params=parameters or None)
    assert answer.status_code == 200, answer.text
    return answer.text


def record(body: str, severity: int = 9, *, trace_id: bytes = b"", span_id: bytes = b"", **resource: str) -> Batch:
    """A log record; names of the resource have ``_`` for a dot."""
    request = ExportLogsServiceRequest()
    owner = request.resource_logs.add()
    set_attributes(owner.resource.attributes, {key.replace("_", "."): value for key, value in resource.items()})
    one = owner.scope_logs.add().log_records.add(
        time_unix_nano=now(), severity_number=severity, trace_id=trace_id, span_id=span_id
    )
    one.body.string_value = body
    return Batch.of(Signal.LOGS, request.SerializeToString())


def link_of(text: str, words: str) -> str:
    """The link with these words in it."""
    found = [
        url for url, inside in re.findall(r'<a[^>]* ?href="([^"]*)"[^>]*>(.*?)</a>', text, re.DOTALL) if words in inside
    ]
    assert found, f"no link says {words!r}"
    return unescape(found[0])


def test_log_lines_are_found_by_text_severity_host_and_service(front: Front, client: httpx.Client) -> None:
    keep(
        front,
        record("disk (sda) is full", 17, host_name="nas", service_name="smartd"),
        record("a door was opened", 9, host_name="router", service_name="home"),
    )
    both = ("disk (sda) is full", "a door was opened")

    def shown(**parameters: str) -> list[bool]:
        text = page(client, "/logs", **parameters)
        return [body in text for body in both]

    assert shown() == [True, True]
    assert shown(q="DISK (SDA)") == [True, False], "as it is, and capital letters make no difference"
    assert shown(q="disk.*full") == [False, False]
    assert shown(severity="error") == [True, False]
    assert shown(host="router") == [False, True]
    assert shown(service="smartd") == [True, False]
    assert shown(host="nas", service="home") == [False, False]
    assert shown(**{"from": "2020-01-01", "to": "2020-01-02"}) == [False, False]


def test_what_nobody_can_mean_is_told(client: httpx.Client) -> None:
    for path, parameters in (
        ("/logs", {"severity": "bad"}),
        ("/logs", {"range": "2y"}),
        ("/logs", {"q": "a\0b"}),
        ("/traces", {"longer": "long"}),
        ("/traces/nothing", {}),
        ("/runs", {"state": "lost"}),
    ):
        answer = client.get(path, params=parameters or None)
        assert answer.status_code == 400, path
        assert not re.search("Traceback|psycopg", answer.text)


def test_hostile_telemetry_stays_text(front: Front, client: httpx.Client) -> None:
    script = "</summary></li><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"
    keep(
        front,
        record(script, 9, host_name=script, service_name=script),
        logs(script, event=script),
        spans(script, trace_id=next(_traces).to_bytes(16, "big"), resource={"service.name": script}),
    )
    for path in ("/logs", "/events", "/traces", link_of(page(client, "/traces"), "&lt;script&gt;")):
        text = page(client, path)
        assert "&lt;script&gt;alert(1)" in text, path
        assert "<script>alert" not in text, path
        assert "<img src=x" not in text, path


def test_a_log_line_leads_to_its_trace_and_a_span_to_its_logs(front: Front, client: httpx.Client) -> None:
    trace_id = next(_traces).to_bytes(16, "big")
    root, child = b"rootroot", b"child--1"
    keep(
        front,
        spans("GET /cart", trace_id=trace_id, span_id=root, resource={"service.name": "web", "host.name": "nas"}),
        spans(
            "SELECT cart",
            trace_id=trace_id,
            span_id=child,
            parent_span_id=root,
            status=Status(code=Status.STATUS_CODE_ERROR, message="no such table"),
            events=[Span.Event(name="retried", time_unix_nano=now())],
            resource={"service.name": "db"},
        ),
        record("the cart is gone", 17, trace_id=trace_id, span_id=child, service_name="db"),
        record("nothing to do with it", 9, service_name="db"),
    )
    leads = link_of(page(client, "/logs", q="the cart is gone"), "Its trace")
    assert leads == f"/traces/{trace_id.hex()}?span={child.hex()}#span-{child.hex()}"
    trace = page(client, leads)
    assert trace.index("GET /cart") < trace.index("SELECT cart"), "the callers first"
    assert "no such table" in trace
    assert "retried" in trace
    assert len(re.findall("<details open", trace)) == 1, "the span that was asked for is open"
    of_span = page(client, link_of(trace, "Logs of this span (1)"))
    assert "the cart is gone" in of_span
    assert "nothing to do with it" not in of_span
    listed = page(client, "/traces", service="db", errors="1")
    assert link_of(listed, "GET /cart") == f"/traces/{trace_id.hex()}"
    assert trace_id.hex() not in page(client, "/traces", service="db", longer="1h")


def test_a_trace_of_many_spans_is_shown_in_parts(front: Front, client: httpx.Client) -> None:
    trace_id = next(_traces).to_bytes(16, "big")
    keep(front, spans(*(f"step {n:03}" for n in range(350)), trace_id=trace_id, at=now()))
    first = page(client, f"/traces/{trace_id.hex()}")
    second = page(client, link_of(first, "The spans after"))
    assert len(re.findall(r'<li id="span-', first)) == 300
    assert len(re.findall(r'<li id="span-', second)) == 50
    names = [name for part in (first, second) for name in re.findall(r'class="name">(.*?)</span>', part)]
    assert names == [f"step {n:03}" for n in range(350)]


def test_a_trace_that_is_not_there_is_told(client: httpx.Client) -> None:
    assert "has no span of this trace" in page(client, f"/traces/{'a' * 32}")


def test_events_are_on_a_timeline_and_lead_to_the_logs_of_their_minute(front: Front, client: httpx.Client) -> None:
    keep(front, logs("one order", event="order.placed"), record("beside it", host_name="nas"))
    text = page(client, "/events", name="order.placed")
    assert re.search(r'<circle cx="[0-9.]+%"', text)
    assert "beside it" not in text
    assert "beside it" in page(client, link_of(text, "What nas logged in that minute"))
    assert "<circle" not in page(client, "/events", name="order.placed", host="router")


def test_runs_are_listed_without_what_their_steps_wrote(front: Front, client: httpx.Client) -> None:
    front.database.run(
        "INSERT INTO run"
        " (id, kind, name, state, trigger, requested_at, started_at, finished_at, attempt, counts, output, error)"
        " VALUES (gen_random_uuid(), 'gitops', 'homelab', 'failed', '{}', now() - interval '5 s',"
        """ now() - interval '4 s', now() - interval '1 s', 1, '{"changed": 3}', 'password=secret', 'of secrets'),"""
        " (gen_random_uuid(), 'pipeline', 'orders', 'succeeded', '{}', now(), now(), now(), 1, '{}', '', NULL)"
    )
    text = page(client, "/runs")
    assert "homelab" in text
    assert "orders" in text
    assert "3 changed" in text
    assert ">3 s" in text
    assert "secret" not in re.sub(r"may hold secrets", "", text)
    rows = page(client, "/runs", kind="pipeline").partition("<tbody>")[2]
    assert "orders" in rows
    assert "homelab" not in rows


def test_what_comes_in_is_pushed_to_the_log_stream(front: Front, client: httpx.Client) -> None:
    with client.stream("GET", "/logs", params={"q": "brand new"}, headers={"accept": "text/event-stream"}) as stream:
        lines = stream.iter_lines()
        next(lines)
        keep(front, record("this is brand new"))
        pushed = next(line for line in lines if "this is brand new" in line)
    assert pushed.startswith("data:")


def test_an_empty_store_teaches_how_to_send(native_database: Database) -> None:
    with hubs(forked=True) as running, start(running, native_database).client() as client:
        client.headers.update(HTML)
        for path, command in (
            ("/logs", "obs-hub send log"),
            ("/traces", "obs-hub send span"),
            ("/events", "obs-hub send event"),
            ("/runs", "obs-hub gitops"),
        ):
            assert command in page(client, path), path


def test_a_store_that_is_away_is_told(front: Front, client: httpx.Client) -> None:
    front.database.allow_connections(False)
    try:
        until(lambda: client.get("/logs").status_code == 503)
        for path in ("/logs", "/traces", "/events", "/runs", f"/traces/{'a' * 32}"):
            answer = client.get(path)
            assert answer.status_code == 503, path
            assert "The store cannot be read" in answer.text
            assert "host=" not in answer.text
        assert client.get("/health").status_code == 200
    finally:
        front.database.allow_connections(True)
    until(lambda: client.get("/logs").status_code == 200)


def test_what_loki_has_is_among_what_the_store_has(native_database: Database) -> None:
    port = free_port()
    with loki_stand_in() as loki, hubs(forked=True) as running:
        document = yaml.safe_load(
            config_text(
                timescale={"dsn": native_database.dsn},
                exporters={"loki": {"endpoint": loki.url}},
                routes={"logs": ["timescale", "loki"]},
            )
        )
        document["extensions"] = {"api": {"endpoint": f"127.0.0.1:{port}"}}
        document["service"]["extensions"] = ["api"]
        running.start(yaml.safe_dump(document)).until_ready()
        loki.push(now() - SECOND, "a line of Loki's", service_name="web")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=HTML, timeout=60, trust_env=False) as client:
            text = page(client, "/logs", q="line (of")
            assert "a line of Loki&#39;s" in text
            assert loki.queries[-1]["query"] == r'{service_name=~".+"} |~ "(?i)line \\(of"'
            loki.failure = 500, "the ring is broken"
            text = page(client, "/logs")
            assert "the ring is broken" in text
            assert "a line of" not in text
