"""Whatever README and docs tell people to type is typed here: SQL on a store, commands to the command line.

What is not run says why, in one of the lists below.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click
import psycopg
import pytest
from psycopg import sql

from gateway.cli import main
from gateway.query.reading.connection import connect_to_read
from gateway.store.schema import READER_ROLE
from tests.integration.cli.processes import HubProcess, config_text, free_port, hubs, obs_hub
from tests.support.databases import Database
from tests.support.documents import PLACEHOLDER, ROOT, Command, Sql, commands, named_commands, statements

COMMANDS = commands()
OURS = [command for command in COMMANDS if command.program == "obs-hub"]
SQL = [statement for statement in statements() if "timescaledb_" not in statement.text]
OF_TIMESCALEDB = [statement for statement in statements() if "timescaledb_" in statement.text]

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TESTS = {
    name for path in (ROOT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))
}

ELSEWHERE = {
    "make": "the repository's own targets, checked for being there",
    "curl": "needs the hub on its default ports; what it sends is tried by the tests of the receiver and the API",
    "pytest": "would run the tests in the tests",
    "python": "would run the tests in the tests, or benchmarks",
    "date": "of the shell's own",
    "cat": "of the shell's own",
    "hostname": "of the shell's own",
    "createdb": "needs the example's server",
    "sudo": "changes the machine, or needs another one's database",
    "usermod": "changes the machine",
    "systemctl": "changes the machine",
    "loki": "needs Loki",
    "docker": "needs Docker; tests/integration/container does what the Dockerfile does without it",
    "kubectl": "needs a cluster; tests/integration/charts has an API server",
    "helm": "needs a cluster; tests/unit/charts renders the charts",
    "stat": "of the shell's own",
    "tailscale": "needs a tailnet",
    "git": "changes the checkout",
    "bao": "needs OpenBao; tests/integration/test_secret_rotation.py has one",
}
"""Programs that are not the hub's, and why they are not run."""

RUN = [
    ("query",),
    ("send",),
    ("logs",),
    ("metrics",),
    ("traces", "--service"),
    ("config", "check"),
    ("config", "show"),
    ("config", "schema"),
    ("token", "create"),
    ("token", "list"),
    ("spool", "status"),
    ("spool", "list"),
    ("dead-letter", "list"),
    ("dead-letter", "replay"),
    ("db", "status"),
]
"""Commands of the hub that are run, by their first words: they change nothing but the data directory of a test."""

NOT_RUN = {
    ("logs", "--follow"): "never ends",
    ("traces", "fcff301d"): "a trace of the example",
    ("traces", "TRACE_ID"): "stands for a trace",
    ("db", "backup"): "writes where the example keeps backups; tests/integration/cli/test_cli_db_backup.py",
    ("db", "restore"): "needs the example's backup; tests/integration/cli/test_cli_db_backup.py",
    ("plan",): "needs no hub, and takes no --data-dir; tests/unit/test_capacity.py",
    ("store", "copy"): "needs the example's server; tests/integration/store/test_copying.py",
    ("db", "reader"): "makes a user of the server; tests/integration/cli/test_cli_db_reader.py",
    ("doctor",): "looks at the machine as well; tests/integration/cli/test_cli_doctor.py",
    ("up",): "never ends; tests/integration/cli/test_cli_run.py",
    ("gate",): "needs a tailnet; tests/integration/cli/test_cli_gate.py",
    ("gitops",): "needs the example's repositories; tests/integration/gitops/test_cli_gitops.py",
    ("pipeline",): "needs MongoDB; tests/integration/pipelines/test_cli_pipeline.py",
    ("hostmetrics",): "sends to the example's hub; tests/unit/hostmetrics",
    ("journal",): "sends to the example's hub; tests/integration/cli/test_cli_journal.py",
    ("spool", "drop"): "stands for a batch; tests/unit/spool/test_spool_drop.py",
    ("spool", "drain"): "is for when no hub runs; tests/faults/test_spool_commands.py",
    ("dead-letter", "show"): "stands for a dead letter; tests/faults/test_spool_commands.py",
    ("dead-letter", "drop"): "stands for a dead letter; tests/faults/test_spool_commands.py",
    ("token", "revoke"): "stands for a token; tests/unit/auth",
    ("systemd",): "changes the machine; tests/integration/cli/test_cli_systemd.py",
    ("page",): "writes files, and needs no --data-dir; tests/integration/publishing/test_published_page.py",
    ("assets", "copy"): "writes below /etc; that there is such an asset is checked",
    ("config", "init"): "writes a file; tests/integration/cli/test_cli_assets.py",
}
"""Commands of the hub that are parsed and not run, by their first words, and why."""


STAND_INS = ("N", "NAME", PLACEHOLDER)


def parsed(words: Sequence[str], *, whole: bool = True) -> None:
    """Let the real command line read a command as far as it would before running it. Raises what is wrong.

    A command that is not ``whole`` may lack arguments, or be a group's name.
    """
    command: click.Command = main
    context: click.Context | None = None
    name, rest = "obs-hub", list(words)
    while True:
        try:
            context = command.make_context(name, rest, parent=context)
            if not isinstance(command, click.Group):
                return
            left = [*context._protected_args, *context.args]
            found, inner, rest = command.resolve_command(context, left)
        except (click.MissingParameter, click.BadOptionUsage, click.exceptions.NoArgsIsHelpError):
            if whole:
                raise
            return
        except click.UsageError as error:
            # A file of the example's, or a word that stands for another.
            if "does not exist" not in error.message and not any(f"'{word}'" in error.message for word in STAND_INS):
                raise
            return
        assert found is not None
        assert inner is not None
        name, command = found, inner


def test_what_is_said_to_have_tried_a_procedure_is_there() -> None:
    """Of every procedure of the operator's guide there is a test or a script, and each that is named exists."""
    procedures = re.split(r"^## ", (ROOT / "docs/operations.md").read_text("utf-8"), flags=re.MULTILINE)[1:]
    assert len(procedures) > 8
    for procedure in procedures:
        named = re.findall(r"`(tests/[\w/.]+)`|`python -m ([\w.]+)", procedure)
        assert named, procedure.partition("\n")[0]
        for path, module in named:
            assert (ROOT / (path or f"{module.replace('.', '/')}.py")).exists(), path or module


@pytest.mark.parametrize("index", ["README.md", "docs/README.md"])
def test_every_page_is_listed_where_people_look_for_it(index: str) -> None:
    folder = (ROOT / index).parent
    linked = {(folder / path).resolve() for path in re.findall(r"\]\(([^)#:]+)\)", (ROOT / index).read_text("utf-8"))}
    pages = {page for page in (ROOT / "docs").glob("*.md") if page.name != "README.md"}
    assert len(pages) > 30
    assert pages - linked == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_said_of_tests_is_so(page: Path) -> None:
    """Each file and each function of the tests that a page names is there; ``…`` stands for the rest of a name."""
    text = page.read_text("utf-8")
    for path in re.findall(r"`(tests/[\w/.]+)", text):
        assert path.endswith("/NAME") or (ROOT / path).exists(), path
    if page.name != "extending.md":  # whose test is written by whoever follows it
        for name in re.findall(r"`(test_\w+…?)`", text):
            assert any(each.startswith(name[:-1]) if name.endswith("…") else each == name for each in TESTS), name


@pytest.mark.parametrize("command", OURS, ids=str)
def test_every_command_is_understood_by_the_command_line(command: Command) -> None:
    parsed(command.words[1:])


@pytest.mark.parametrize("command", dict.fromkeys(named_commands()), ids=str)
def test_every_command_that_is_spoken_of_is_there(command: Command) -> None:
    words = [word for word in command.words[1:] if word not in ("…", "...")]
    parsed(words, whole=False)


def test_every_other_program_is_known_with_the_reason_why_it_is_not_run() -> None:
    programs = {command.program for command in COMMANDS if re.fullmatch(r"[\w./-]+", command.words[0])}
    assert programs - {"obs-hub"} == set(ELSEWHERE)


def test_what_make_is_told_to_make_is_in_the_makefile() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    for command in COMMANDS:
        if command.program == "make":
            (target, *_) = [word for word in command.words[1:] if "=" not in word]
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), str(command)


def test_what_is_copied_is_there() -> None:
    listed = obs_hub("assets", "list").stdout.split()
    for command in OURS:
        if command.words[1:3] == ("assets", "copy"):
            assert any(name == command.words[3] or name.startswith(f"{command.words[3]}/") for name in listed)


def test_every_command_is_run_or_there_is_a_reason_why_not() -> None:
    undecided = [str(command) for command in OURS if not (runs(command) or begins(command, NOT_RUN))]
    assert undecided == []


# -- Run on a hub ------------------------------------------------------------------------------------------------------


def begins(command: Command, known: Iterable[tuple[str, ...]]) -> bool:
    """Tell whether a command begins with any of some words."""
    return any(command.words[1 : len(first) + 1] == first for first in known)


def runs(command: Command) -> bool:
    return begins(command, RUN) and not begins(command, NOT_RUN)


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    """A running hub that has what the examples ask for: its own metrics."""
    with hubs(forked=True) as started:
        silent = {"telemetry": {"metrics": {"interval": "1s"}, "traces": {"enabled": False}}}
        text = config_text(
            grpc=free_port(),
            service=silent,
            receivers={"hostmetrics": {"collection_interval": "1s"}},
        )
        running = started.start(text).until_ready()
        for name in ("system.memory.usage", "system.cpu.utilization", "obs_hub.commit.duration"):
            running.until(lambda name=name: obs_hub("metrics", name, "--data-dir", running.data_dir).returncode == 0)  # type: ignore[misc]
        yield running


@pytest.mark.parametrize("command", list(filter(runs, OURS)), ids=str)
def test_commands_that_need_nothing_else_run(command: Command, hub: HubProcess) -> None:
    if command.words[1:] == ("metrics", "room.temperature"):
        assert obs_hub("send", "metric", "room.temperature", "21.5", "--data-dir", hub.data_dir).returncode == 0
    if begins(command, [("config", "schema")]):
        places: list[object] = []
    elif command.words[1] == "config":
        places = ["--config", hub.config_file]
    else:
        places = ["--data-dir", hub.data_dir]
    done = obs_hub(*command.words[1:], *places)
    assert done.returncode == 0, done.stderr


# -- SQL ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", SQL, ids=str)
def test_every_sql_runs_as_who_it_is_for(statement: Sql, native_database: Database) -> None:
    """A query runs as the reader; what makes a database, as its server's owner."""
    text = re.sub(r"\$__timeFilter\((\w+)\)", r"\1 > now() - interval '1 hour'", statement.text)
    if text.startswith("CREATE DATABASE obs_hub "):
        name = f"{native_database.name}_made"
        with psycopg.connect(native_database.server.dsn, autocommit=True) as connection:
            connection.execute(text.replace("obs_hub", name, 1).encode())
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
        return
    with connect_to_read(native_database.dsn) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (READER_ROLE,)
        connection.execute(text.encode()).fetchall()


def test_the_sql_of_timescaledb_runs_there(timescale_database: Database) -> None:
    for statement in OF_TIMESCALEDB:
        timescale_database.run(statement.text)


def test_there_is_something_to_try() -> None:
    """Were the blocks not found any more, the tests above would pass all the same."""
    assert len(OURS) > 50
    assert len(SQL) > 5
    assert len(list(filter(runs, OURS))) > 15
    for first in [*RUN, *NOT_RUN]:
        assert any(begins(command, [first]) for command in OURS), f"no command begins with {first}"
