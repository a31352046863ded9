"""A store without what is asked for: the commands say so, and what to do, where no program reads it."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.component import Batch, Signal
from tests.support.databases import Database
from tests.support.stores import running_exporter, store
from tests.support.telemetry import DAY, SECOND, gauge, logs, now, spans

Run = Callable[[str], Result]

SEND = "any OpenTelemetry SDK, Alloy or Collector"


def runner(database: Database, data_dir: Path) -> Run:
    def run(command: str) -> Result:
        return CliRunner().invoke(
            main, [*shlex.split(command), "--dsn", database.dsn, "--data-dir", str(data_dir)], env={"OBSHUB_CONFIG": ""}
        )

    return run


@pytest.fixture(scope="module")
def empty(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return runner(module_database, tmp_path_factory.mktemp("empty"))


@pytest.mark.parametrize(
    ("command", "said", "advice"),
    [
        ("logs", "no logs have come in yet", "obs-hub send log hello"),
        ("logs --limit all --service shop", "no logs have come in yet", "obs-hub send log hello"),
        ("logs -o json", "no logs have come in yet", "obs-hub send log hello"),
        ("traces", "no traces have come in yet", "obs-hub send span hello"),
        ("traces -o json --errors", "no traces have come in yet", "obs-hub send span hello"),
        ("metrics", "no metrics have come in yet", "obs-hub send metric room.temperature"),
        ("metrics 'system.*' -o csv", "no metrics have come in yet", "obs-hub send metric room.temperature"),
    ],
)
def test_an_empty_store_says_that_it_is_and_how_something_comes_in(
    empty: Run, command: str, said: str, advice: str
) -> None:
    shown = empty(command)
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert said in shown.stderr
    assert advice in shown.stderr
    assert SEND in shown.stderr


@pytest.mark.parametrize("command", ["metrics system.cpu.time", "metrics system.cpu.time --by x -o json"])
def test_a_metric_of_an_empty_store_is_an_error_that_says_so(empty: Run, command: str) -> None:
    shown = empty(command)
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "no metric system.cpu.time, nor any other yet" in shown.stderr
    assert "obs-hub send metric system.cpu.time 1" in shown.stderr


def shop(body: str, at: int) -> Batch:
    batch = logs(body, at=at, resource={"host.name": "nas", "service.name": "shop", "customer": "ada"})
    return Batch.of(Signal.LOGS, batch.payload)


@pytest.fixture
def filled(native_database: Database, tmp_path: Path) -> Run:
    async def fill() -> None:
        async with running_exporter(native_database) as exporter:
            old = now() - 3 * DAY
            await store(
                exporter,
                shop("now", now() - 60 * SECOND),
                shop("then", old),
                spans("GET /", at=now() - 60 * SECOND, resource={"service.name": "shop"}),
                gauge([1.0], name="load"),
            )

    asyncio.run(fill())
    return runner(native_database, tmp_path)


def test_a_filter_that_nothing_matches_says_what_may_be_meant(filled: Run) -> None:
    for command, meant in (
        ("logs --service shoop", "nothing there has --service shoop; did you mean 'shop'"),
        ("logs --host nass", "nothing there has --host nass; did you mean 'nas'"),
        ("logs -a custmer=ada", "nothing there has --attribute custmer; did you mean 'customer'"),
        ("logs -a customer=adda", "nothing there has --attribute customer=adda; did you mean 'ada'"),
        ("logs --grep nothing", "none of the log records from"),
        ("logs --severity Warning", "none of the log records from"),
        ("traces --service shoop", "nothing there has --service shoop; did you mean 'shop'"),
        ("traces --errors", "none of the traces from"),
    ):
        shown = filled(command)
        assert (shown.exit_code, shown.stdout) == (0, ""), command
        assert meant in shown.stderr, command
        assert "matches" in shown.stderr, command


def test_a_time_without_anything_says_when_there_was_something(filled: Run) -> None:
    shown = filled("logs --since 2d --until 1d")
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert "the newest before is 3d 0h old, --since 4d shows it" in shown.stderr
    assert json.loads(filled("logs --since 4d --until 1d -o json").stdout)["body"] == "then"
    assert "have come in before that" in filled("logs --since 20d --until 10d").stderr
    assert "have come in before that" in filled("traces --since 3h --until 2h").stderr


def test_what_is_there_comes_without_a_word(filled: Run) -> None:
    for command in ("logs", "logs --limit all", "traces", "metrics", "metrics load"):
        shown = filled(command)
        assert (shown.exit_code, shown.stderr) == (0, ""), command
        assert shown.stdout
