"""Every command teaches, and wrong usage is answered with what to write instead."""

from __future__ import annotations

import re

import pytest

from gateway import __version__
from tests.integration.cli.processes import obs_hub

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
    "doctor": "what to do",
    "config": "configuration",
    "config check": "with its line",
    "config show": "secrets masked",
    "config schema": "for editors",
    "db": "migrates its store when it starts",
    "db migrate": "Safe to run while gateways run",
    "db reader": "Prints what to enter in Grafana",
    "db status": "Exits with 1 when some are pending",
    "hostmetrics": "for a systemd timer",
    "journal": "Send what is new since the last time",
    "pipeline": "whenever there is something to read",
    "pipeline list": "each with its last run",
    "pipeline run": "Exits with 0 when the run succeeded",
    "pipeline history": "newest first",
    "spool": "batches that wait on disk",
    "spool status": "how much waits",
    "spool list": "oldest first",
    "spool drain": "before an upgrade",
    "dead-letter": "Mend the cause, then replay them",
    "dead-letter list": "oldest first",
    "dead-letter show": "as JSON",
    "dead-letter replay": "to the exporter that each was for",
    "dead-letter drop": "Remove dead letters",
    "token": "tokens that clients authenticate with",
    "token create": "Make a token and print it",
    "token list": "never",
    "token revoke": "Take a token back",
}


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


def test_it_says_its_version() -> None:
    assert obs_hub("--version").stdout == f"obs-hub, version {__version__}\n"


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("quarry", "No such command 'quarry'"),
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
