"""Whatever telemetry, errors and names hold: no command, in no format, lets it drive a terminal."""

from __future__ import annotations

import asyncio
import io
import json
import logging  # noqa: TID251 - libraries log by it
import os
import pty
import re
import sys
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
import yaml

from gateway import cli, logs
from gateway.data_paths import dead_letter_directory
from gateway.extensions.tokens.token import create
from gateway.extensions.tokens.token_file import TokenFile
from gateway.net.access import Scope
from gateway.pipeline.dead_letters import DeadLetters
from gateway.runs import Request, Runs
from gateway.terminal import guard_terminals
from tests.support.databases import Database
from tests.support.repositories import Repositories
from tests.support.stores import running_exporter, store
from tests.support.telemetry import gauge, spans
from tests.support.telemetry import logs as log_batch

HOSTILE = "a\x1b]0;owned\x07b\x1b[2Jc\x9b2Jd\x1b[8me\u202ef\u2066g\x08h\x0bi"
"""A title, a cleared screen (in seven and in eight bits), hidden text, reordering marks, a step back."""
KEY = f"key{HOSTILE}"
# What may arrive: this program's own colours.
_OWN = re.compile(r"\x1b\[(0|1|2|22|3[1-79]|9[1-7]|41)(;(0|1|2|22|3[1-79]|9[1-7]|41))*m")
_FORBIDDEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def on_terminal(work: Callable[[], object]) -> str:
    """Do something while standard output and standard error are a terminal; return what arrived there."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    arrived = bytearray()

    def collect() -> None:
        try:
            while chunk := os.read(ours, 65536):
                arrived.extend(chunk)
        except OSError:
            pass  # the other end is closed

    reader = threading.Thread(target=collect)
    reader.start()
    before = sys.stdout, sys.stderr
    stream = io.TextIOWrapper(os.fdopen(theirs, "wb", 0), encoding="utf-8", write_through=True)
    sys.stdout = sys.stderr = stream
    try:
        work()
    finally:
        sys.stdout.flush()
        sys.stdout, sys.stderr = before
        stream.close()
        reader.join()
        os.close(ours)
    return arrived.decode("utf-8", "surrogateescape")


def assert_harmless(shown: str) -> None:
    left = _OWN.sub("", shown)
    assert _FORBIDDEN.findall(left) == [], left


@pytest.fixture
def told(native_database: Database, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Run commands on a terminal, about a hub whose every part holds hostile text."""
    repositories = Repositories(tmp_path)
    attributes = {KEY: HOSTILE, "service.name": HOSTILE, "host.name": HOSTILE}

    async def fill() -> None:
        async with running_exporter(native_database) as exporter:
            await store(
                exporter,
                log_batch(HOSTILE, resource=attributes),
                spans(HOSTILE, resource=attributes),
                gauge(name=f"name{HOSTILE}", attributes={KEY: HOSTILE}, resource=attributes),
            )
        runs = Runs(native_database.dsn)
        for kind, name in (("gitops", "home"), ("pipeline", "reading")):
            await runs.enqueue(Request(kind, name, {"source": HOSTILE}))
        await runs.close()

    asyncio.run(fill())
    with native_database.connect() as connection:
        connection.execute(
            "UPDATE run SET state = 'failed', finished_at = now(), error = %s, output = %s", [HOSTILE] * 2
        )
        connection.execute("UPDATE metric SET unit = %s", [HOSTILE])
        connection.commit()
    data = tmp_path / "data"
    tokens = TokenFile(data / "tokens.json")
    made, _ = create("nas", [Scope.INGEST])
    tokens.add(made)
    tokens.path.write_text(tokens.path.read_text().replace('"nas"', json.dumps(f"nas{HOSTILE}")))
    letters = DeadLetters(dead_letter_directory(data, "timescale"), 2**20)
    letters.keep(log_batch(HOSTILE), HOSTILE)
    (repositories.hub / f"file{HOSTILE}").touch()
    gitops = {"repositories": {"home": {"path": str(repositories.hub), "interval": None}}}
    config = tmp_path / "hub.yaml"
    document = {
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}}},
        "exporters": {"timescale": {"dsn": native_database.dsn}},
        "extensions": {"gitops": gitops, "tokens": {}},
        "service": {
            "extensions": ["gitops"],
            "pipelines": {"metrics": {"receivers": ["otlp"], "exporters": ["timescale"]}},
        },
    }
    config.write_text(yaml.safe_dump(document))

    def run(*arguments: str) -> str:
        def work() -> None:
            with pytest.raises(SystemExit):
                cli.main([*arguments], prog_name="obs-hub")

        return on_terminal(work)

    before = dict(os.environ)
    os.environ |= {"OBSHUB_CONFIG": str(config), "OBSHUB_DATA_DIR": str(data), "COLUMNS": "200", "TERM": "xterm"}
    yield run
    os.environ.clear()
    os.environ.update(before)


QUERY = "SELECT service_name, body, attributes FROM logs"
COMMANDS = {
    "query as a table": (["query", QUERY], True),
    "query as csv": (["query", "--csv", QUERY], True),
    "query as json": (["query", "--json", QUERY], True),
    "a query's error": (["query", f'SELECT "no{HOSTILE}"'], True),
    "logs": (["logs", "--show-attributes"], True),
    "logs as json": (["logs", "-o", "json"], True),
    "traces": (["traces"], True),
    "traces as json": (["traces", "-o", "json"], True),
    "metrics": (["metrics"], True),
    "metrics as csv": (["metrics", "*", "-o", "csv"], True),
    "metrics as json": (["metrics", "*", "-o", "json"], True),
    "a metric": (["metrics", f"name{HOSTILE}"], True),
    "a metric as csv": (["metrics", f"name{HOSTILE}", "-o", "csv"], True),
    "a metric as json": (["metrics", f"name{HOSTILE}", "-o", "json"], True),
    "a metric that is not there": (["metrics", f"other{HOSTILE}"], True),
    "history of gitops": (["gitops", "history"], True),
    "history of gitops as json": (["gitops", "history", "-o", "json"], True),
    "status of gitops": (["gitops", "status", "--no-fetch"], True),
    "status of gitops as json": (["gitops", "status", "--no-fetch", "-o", "json"], True),
    "history of pipelines": (["pipeline", "history"], True),
    "tokens": (["token", "list"], False),
    "dead letters": (["dead-letter", "list"], True),
    "spools": (["spool", "status"], False),
    "doctor": (["doctor"], False),
    "a name of a configuration": (["config", "check", "--config", f"/nowhere/{HOSTILE}"], True),
    "a command that is not there": ([f"no{HOSTILE}"], True),
    "an option that is not there": (["query", f"--no{HOSTILE}"], True),
    "a name of a token": (["token", "create", HOSTILE, "--scope", "ingest"], False),
}


def test_no_command_in_any_format_lets_it_drive_a_terminal(told: Callable[..., str]) -> None:
    for title, (arguments, holds) in COMMANDS.items():
        shown = told(*arguments)
        assert shown, title
        assert_harmless(shown)
        # Otherwise nothing would be tried here.
        assert not holds or "owned" in shown, f"{title}: {shown}"


def test_files_and_pipes_get_every_byte_as_it_is(
    told: Callable[..., str], native_database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--csv", "--json"):
        with pytest.raises(SystemExit):
            cli.main(["query", option, "SELECT service_name FROM logs"], prog_name="obs-hub")
        out = capsys.readouterr().out
        if option == "--json":
            assert json.loads(out) == [{"service_name": HOSTILE}]
            assert "\x9b" in out
        else:
            assert out == f"service_name\n{HOSTILE}\n"


def test_json_on_a_terminal_is_json_of_the_same_values(told: Callable[..., str]) -> None:
    assert json.loads(told("query", "--json", "SELECT service_name FROM logs")) == [{"service_name": HOSTILE}]


def test_the_hubs_own_log_lines_do_not_drive_a_terminal() -> None:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level

    def work() -> None:
        logs.configure("info")
        structlog.get_logger("test").warning(HOSTILE, name=HOSTILE, **{KEY: 1})
        logging.getLogger("test").warning("refused: %s", HOSTILE)
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            logging.getLogger("test").exception("failed")

    try:
        shown = on_terminal(work)
    finally:
        root.handlers, root.level = handlers, level
        structlog.reset_defaults()
    assert_harmless(shown)
    assert shown.count("owned") >= 5
    assert "\x1b[" in shown, "a person at a terminal gets colours"


def test_a_traceback_and_what_is_only_printed_do_not_either() -> None:
    def work() -> None:
        guard_terminals()
        print(HOSTILE)
        sys.excepthook(ValueError, ValueError(HOSTILE), None)
        sys.stdout.writelines([HOSTILE, "\x1b[31mred\n"])

    shown = on_terminal(work)
    assert_harmless(shown)
    assert shown.count("owned") == 3
    assert shown.endswith("\x1b[31mred\x1b[0m\n"), "a colour does not last"
