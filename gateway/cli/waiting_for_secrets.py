"""Waiting for the sources of secrets, as a service does that is started with the machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click
import structlog

from gateway import logs
from gateway.config import NO_OVERRIDES, Config, ConfigError, Overrides, load, resolve_path
from gateway.systemd.notify import Notifier

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 15.0
_REMIND_SECONDS = 600.0


def load_when_possible(config_path: Path | None, overrides: Overrides = NO_OVERRIDES) -> Config:
    """Load the configuration, with what options say instead.

    As long as OpenBao is sealed, away, or refuses the log-in, wait: a person has to come.

    Anything else that is wrong ends the command, one line for each. Ctrl-C and SIGTERM end the wait.
    """
    pause, said, remind_at = _FIRST_PAUSE, "", 0.0
    notifier = Notifier.from_environment(dict(os.environ))  # a copy: the hub itself reads what is in there later
    while True:
        try:
            return load(resolve_path(config_path), overrides=overrides)
        except ConfigError as error:
            if not error.passing:
                raise click.ClickException(str(error)) from error
            reasons = "; ".join(dict.fromkeys(problem.message for problem in error.problems))
        if not said:
            logs.configure()  # as configured is what is not known yet
        if reasons != said or time.monotonic() > remind_at:
            _log.warning("waiting, and trying again", reason=reasons)
            said, remind_at = reasons, time.monotonic() + _REMIND_SECONDS
        notifier.waiting(f"waiting: {reasons}", 2 * pause + 60)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
