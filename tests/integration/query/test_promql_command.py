"""``obs-hub metrics --promql``: a query drawn in the terminal, or as values for programs."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import time
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from tests.support.databases import Database, Server, fresh_store
from tests.support.prometheus import Collection
from tests.support.stores import running_exporter, store

STEP = 15_000
NOW = time.time_ns() // 10**6 // STEP * STEP
COUNT = 40
Command = Callable[..., Result]


@pytest.fixture(scope="module")
def command(embedded_server: Server) -> Iterator[Command]:
    async def fill(database: Database) -> None:
        async with running_exporter(database) as exporter:
            for n in range(COUNT):
                its = Collection(NOW - (COUNT - 1 - n) * STEP)
                its.counter("hits", 15 * n, attributes={"page": "/a"}).counter(
                    "hits", 30 * n, attributes={"page": "/b"}
                )
                its.exponential("spread", 0, 0, [1, 2]).counter("http.hits", n)
                await store(exporter, its.batch)

    with fresh_store(embedded_server) as database:
        asyncio.run(fill(database))

        def run(*arguments: str, seconds: int = 300) -> Result:
            since, until = (
                time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW // 1000 - before)) for before in (seconds, 0)
            )
            asked = ["--dsn", database.dsn, "--since", since, "--until", until, *arguments]
            return CliRunner().invoke(main, ["metrics", *asked])

        yield run


def test_a_query_is_drawn(command: Command) -> None:
    shown = command("--promql", "sum by (page) (rate(hits_total[1m]))")
    assert shown.exit_code == 0, shown.output
    assert "sum by (page) (rate(hits_total[1m])) (PromQL)" in shown.output
    assert "by page" in shown.output
    assert "/b" in shown.output
    one = command("--promql", "sum(rate(hits_total[1m]))")
    assert "avg 3" in one.output


def test_values_for_programs(command: Command) -> None:
    asked = ("--promql", "rate(hits_total[1m])", "--step", "15s")
    rows = list(csv.DictReader(io.StringIO(command(*asked, "-o", "csv", seconds=60).output)))
    assert {row["page"]: float(row["value"]) for row in rows} == pytest.approx({"/a": 1, "/b": 2})
    assert len(rows) == 2 * 4
    lines = [json.loads(line) for line in command(*asked, "-o", "json", seconds=60).output.splitlines()]
    assert [line["labels"]["page"] for line in lines] == ["/a", "/b"]
    assert lines[0]["points"][-1][1] == pytest.approx(1)


def test_what_is_wrong_is_said(command: Command) -> None:
    wrong = command("--promql", "rate(hits_total)")
    assert wrong.exit_code == 2
    assert "--promql: 1:6: parse error" in wrong.output
    dotted = command("--promql", 'rate(http.hits{page="a.b"}[1m]) / spread.out')
    assert "parse error" in dotted.output
    lines = dotted.output.splitlines()
    assert "http.hits is http_hits_total in PromQL" in lines, "a name that the store has"
    assert "spread.out is spread_out in PromQL" in lines, "one that it has not"
    assert "a.b is" not in dotted.output
    both = command("hits", "--promql", "hits_total")
    assert both.exit_code == 2
    assert "leave NAME" in both.output
    native = command("--promql", "spread")
    assert "histogram_quantile" in native.output
    assert "no values in this time" in native.output
