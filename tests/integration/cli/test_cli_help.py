"""Every command teaches, and wrong usage is answered with what to write instead."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import __version__
from tests.integration.cli.processes import ROOT, environment, obs_hub, obs_hub_process

COMMANDS = {
    "": "Start with `obs-hub up`",
    "up": "embedded PostgreSQL, gateway and this machine's metrics",
    "serve": "SIGTERM stops it cleanly",
    "send": 'obs-hub send log "backup finished"',
    "send metric": "--unit",
    "send log": "--severity",
    "send span": "Seconds",
    "send event": "as JSON",
    "query": 'obs-hub query --csv "SELECT * FROM spans',
    "logs": "obs-hub logs -f --service backup",
    "traces": "The first digits of a trace id are enough",
    "metrics": "obs-hub metrics 'system.*'",
    "plan": "what gives out first",
    "doctor": "what to do",
    "assets": "come with the hub",
    "assets list": "where it usually goes",
    "assets copy": "unless told otherwise by --force",
    "config": "configuration",
    "config init": "with comments",
    "config check": "with its line",
    "config show": "secrets masked",
    "config schema": "for editors",
    "db": "migrates its store when it starts",
    "db backup": "--output /mnt/nas/obs-hub --keep 7",
    "db copy": "it goes on where it was",
    "db migrate": "Safe to run while gateways run",
    "db reader": "Prints what to enter in Grafana",
    "db restore": "Stop the gateways first",
    "db status": "Exits with 1 when migrations are pending",
    "gate": "while the gateway is ready",
    "gate close": "stop that instead",
    "gate run": "ExecStopPost=",
    "gate status": "with 3 when it is closed",
    "hostmetrics": "for a systemd timer",
    "journal": "Send what is new since the last time",
    "systemd": "Run the hub by systemd",
    "systemd install": "Look at everything first with --dry-run",
    "systemd list": "what each needs",
    "systemd uninstall": "drop-ins and system users stay",
    "spool": "batches that wait on disk",
    "spool status": "how much waits",
    "spool list": "oldest first",
    "spool drain": "before an upgrade",
    "spool drop": "that a destination will never take",
    "dead-letter": "Mend the cause, then replay them",
    "dead-letter list": "oldest first",
    "dead-letter show": "as JSON",
    "dead-letter replay": "to the exporter that each was for",
    "dead-letter drop": "Remove dead letters",
    "gitops": "clones that follow their remotes",
    "gitops status": "Exits with 1 when one has drifted",
    "gitops sync": "Ctrl-C ends only the showing",
    "gitops history": "newest first",
    "pipeline": "what applications wrote into MongoDB",
    "pipeline list": "each with its last run",
    "pipeline run": "needs no hub on this machine",
    "pipeline history": "newest first",
    "page": "tells the public how the hub is",
    "page build": "files for any web server",
    "page check": "every problem with its file, its line and what was expected",
    "page new": "to begin a page with",
    "token": "tokens that clients authenticate with",
    "token create": "Make a token and print it",
    "token list": "never",
    "token revoke": "Take a token back",
}
COMMANDS |= {f"store{name[2:]}": said for name, said in COMMANDS.items() if name == "db" or name.startswith("db ")}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command or "obs-hub")
def test_the_help_of_every_command_teaches(command: str) -> None:
    shown = obs_hub(*command.split(), "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert COMMANDS[command] in " ".join(shown.stdout.split())
    assert "--help" in shown.stdout


def test_every_command_of_the_command_line_is_looked_at_here() -> None:
    for group in {name.rpartition(" ")[0] for name in COMMANDS if name}:
        commands = obs_hub(*group.split(), "--help").stdout.partition("Commands:")[2]
        listed = {f"{group} {name}".strip() for name in re.findall(r"^  ([\w-]+)  ", commands, re.MULTILINE)}
        assert listed == {name for name in COMMANDS if name and name.rpartition(" ")[0] == group}


@pytest.mark.parametrize("command", [name for name in COMMANDS if " " not in name])
def test_every_command_runs_as_a_process_of_its_own(command: str) -> None:
    """Most tests run commands in their own process, which may have imported what a command forgot to."""
    words = [*command.split(), "--help"]
    shown, here = obs_hub_process(*words), obs_hub(*words)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == here.stdout


def test_the_list_of_commands_fits_a_terminal_and_says_of_each_what_it_does() -> None:
    shown = obs_hub_process("--help", COLUMNS="80").stdout.partition("Commands:")[2].splitlines()
    listed = [line for line in shown if line]
    assert all(re.fullmatch(r"  [\w-]+ +[A-Z].+\.", line) for line in listed), "one line for each"
    assert max(map(len, listed)) <= 80


_HEAVY = {
    *("asyncio", "google.protobuf", "grpc", "httpx", "importlib.metadata", "jinja2", "litestar", "numpy"),
    *("opentelemetry", "psycopg", "pydantic", "pymongo", "requests", "rich", "structlog", "yaml"),
}
_LOADED = """
import sys
from gateway.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    print("loaded", *sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("--help", set()),
        ("token --help", {"pydantic", "importlib.metadata"}),
        ("token list", {"pydantic", "importlib.metadata"}),
        ("query --help", {"asyncio", "importlib.metadata", "psycopg", "rich", "structlog"}),
        ("logs --help", {"asyncio", "importlib.metadata", "psycopg", "pydantic", "rich", "structlog"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_command_loads_what_it_uses(tmp_path: Path, command: str, needed: set[str]) -> None:
    """What is loaded is most of what such a command costs."""
    ran = subprocess.run(
        [sys.executable, "-c", _LOADED, *command.split()],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=environment(OBSHUB_DATA_DIR=str(tmp_path / "none")),
    )
    loaded = set(ran.stderr.partition("loaded ")[2].split())
    assert "click" in loaded
    assert loaded & _HEAVY <= needed


def test_it_says_its_version() -> None:
    assert obs_hub_process("--version").stdout == f"obs-hub, version {__version__}\n"


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("quarry", "No such command 'quarry'. Did you mean 'query'?"),
        ("metric", "Did you mean 'metrics'?"),
        ("nothing-like-it", "No such command 'nothing-like-it'.\n"),
        ("db migrat", "Did you mean 'migrate'?"),
        ("query --cvs x", "Did you mean"),
        ("send metric room.temperature 1 --unt Cel", "No such option '--unt'"),
        ("send span checkout --duration -1", "expected a length of time, zero or more"),
        ("send span checkout --duration nan", "expected a length of time, zero or more"),
        ("send span checkout --duration soon", "expected seconds such as 0.12, or a duration such as 120ms"),
        ("send log hello --timeout -1", "expected a length of time, zero or more"),
        ("query", "Missing argument 'SQL'"),
        ("send metric room.temperature", "Missing argument 'VALUE'"),
        ("send metric room.temperature warm", "'warm' is not a valid float"),
        ("send log hello --severity loud", "'loud' is not one of 'trace', 'debug', 'info', 'warn', 'error', 'fatal'"),
        ("send log hello --attribute kitchen", "'kitchen' is not KEY=VALUE"),
        ("send event order.placed --body {total", "not JSON"),
        ("serve --workers 0", "0 is not in the range 1<=x<=64"),
        ("serve --port 1", "No such option"),
        ("db migrate --layout heap", "'heap' is not one of 'auto', 'timescale', 'native'"),
        ("up --data-dir /etc/hostname", "is a file"),
    ],
)
def test_wrong_usage_is_answered_with_what_is_wrong_and_where_help_is(command: str, advice: str) -> None:
    answered = obs_hub(*command.split())
    assert answered.returncode == 2
    assert advice in answered.stderr
    assert "Usage: " in answered.stderr
    assert "--help" in answered.stderr
    assert "Traceback" not in answered.stderr


def test_without_a_command_it_shows_its_commands() -> None:
    shown = obs_hub()
    assert "Start with `obs-hub up`" in shown.stdout + shown.stderr
