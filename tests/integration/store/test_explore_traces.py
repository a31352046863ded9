"""``obs-hub traces`` on a store: the list and its filters, and one trace whole."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from gateway.cli import main
from gateway.component import Batch, Signal
from tests.support.databases import Database
from tests.support.stores import running_exporter, store
from tests.support.telemetry import SECOND, now, spans

MS = 10**6
CART, ORDER, OTHER = ("4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f00000000000000000000000001", "00" * 15 + "07")

Command = Callable[..., Result]


def span(
    trace: str, number: int, parent: int | None, service: str, name: str, start: int, length: int, **more: Any
) -> Batch:
    fields = {"parent_span_id": bytes([parent] * 8)} if parent else {}
    return spans(
        name, at=start, resource={"service.name": service, "host.name": "nas"}, trace_id=bytes.fromhex(trace),
        span_id=bytes([number] * 8), end_time_unix_nano=start + length, **fields, **more,
    )  # fmt: skip


def log(trace: str, number: int, at: int, body: str) -> Batch:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=at, severity_number=17)
    record.trace_id, record.span_id, record.body.string_value = bytes.fromhex(trace), bytes([number] * 8), body
    return Batch.of(Signal.LOGS, request.SerializeToString())


@pytest.fixture(scope="module")
def filled_database(module_database: Database) -> Database:
    """Three traces: of 300 ms with an error, of 20 ms, and of two hours ago."""
    start = now() - 60 * SECOND

    async def fill() -> None:
        async with running_exporter(module_database) as exporter:
            await store(
                exporter,
                span(CART, 1, None, "web", "GET /cart", start, 300 * MS, kind=2),
                span(
                    CART,
                    2,
                    1,
                    "db",
                    "SELECT",
                    start + 100 * MS,
                    150 * MS,
                    kind=3,
                    status={"code": 2, "message": "gone"},
                ),
                log(CART, 2, start + 200 * MS, "connection lost"),
                span(ORDER, 3, None, "web", "POST /order", start + 5 * SECOND, 20 * MS),
                span(OTHER, 4, 9, "cron", "tidy up", start - 7200 * SECOND, 5 * SECOND),
            )

    asyncio.run(fill())
    return module_database


@pytest.fixture
def traces(filled_database: Database, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("COLUMNS", "90")

    def run(options: str = "") -> Result:
        return CliRunner().invoke(main, ["traces", "--dsn", filled_database.dsn, *shlex.split(options)])

    return run


def listed(result: Result) -> list[str]:
    """The traces of a list; where there are none, and only then, standard error says so."""
    assert (result.exit_code, "Nothing to show" in result.stderr) == (0, not result.stdout)
    return [json.loads(line)["trace_id"] for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", [ORDER, CART]),
        ("--limit 1", [ORDER]),
        ("--since 3h", [ORDER, CART, OTHER]),
        ("--since 3h --until 1h", [OTHER]),
        ("--errors", [CART]),
        ("--min-duration 100ms", [CART]),
        ("--min-duration 1s", []),
        ("--service db", [CART]),
        ("--service cron --service db --since 1d", [CART, OTHER]),
        ('--service "\' OR true"', []),
    ],
)
def test_recent_traces_are_listed_newest_first(traces: Command, options: str, expected: list[str]) -> None:
    assert listed(traces(f"-o json {options}")) == expected


def test_a_listed_trace_is_its_root_and_what_is_below(traces: Command) -> None:
    _, order, cart = traces().stdout.splitlines()
    assert order[23:] == f"     20 ms      1      0 {ORDER} web: POST /order"
    assert cart[23:] == f"    300 ms      2      1 {CART} web: GET /cart → db"
    found = json.loads(traces("-o json --errors").stdout)
    assert (found["duration_ms"], found["services"], found["spans"], found["errors"]) == (300, ["db", "web"], 2, 1)


def test_a_trace_is_drawn_as_a_waterfall_with_its_logs(traces: Command) -> None:
    result = traces(f"{CART[:8]} --logs")
    assert (result.exit_code, result.stderr) == (0, "")
    title, summary, *lines = result.stdout.splitlines()
    assert title == f"Trace {CART}"
    assert summary.endswith("300 ms, 2 spans of web, db, 1 error")
    lines[3] = lines[3].partition(" ERROR")[2]
    assert [line.rstrip() for line in lines] == [
        "web: GET /cart (server)     300 ms " + "█" * 55,
        "└─ db: SELECT (client) ✗    150 ms " + " " * 18 + "█" * 28,
        "      ✗ gone",
        " - connection lost",
    ]


def test_a_trace_as_json_has_all_its_spans(traces: Command) -> None:
    trace = json.loads(traces(f"{CART.upper()} --logs -o json").stdout)
    assert [span["name"] for span in trace["spans"]] == ["GET /cart", "SELECT"]
    assert trace["spans"][1]["parent_span_id"] == "01" * 8
    assert trace["spans"][1]["duration_ms"] == 150
    assert [record["body"] for record in trace["logs"]] == ["connection lost"]
    assert "logs" not in json.loads(traces(f"{CART} -o json").stdout)


@pytest.mark.parametrize("output", ["text", "json"])
def test_the_spans_are_shown_when_their_logs_cannot_be_read(traces: Command, output: str) -> None:
    result = traces(f"{CART} --logs --loki http://127.0.0.1:1 -o {output}")
    assert result.exit_code == 1
    assert "GET /cart" in result.stdout
    assert "logs" not in result.stdout
    assert "these are the spans alone, for their logs cannot be read: Loki" in result.stderr


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ("4bf92f", 1, f"give more digits:\n  {ORDER}\n  {CART}"),
        ("dead", 1, "no trace dead; `obs-hub traces` lists the recent ones"),
        ("xyz", 2, "up to 32 hexadecimal digits"),
        ("--min-duration long", 2, "expected a duration"),
    ],
)
def test_what_is_no_trace_is_said(traces: Command, options: str, code: int, said: str) -> None:
    result = traces(options)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
