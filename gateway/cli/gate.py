"""``obs-hub gate``: the webhook is reachable from outside only while the gateway is ready."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import structlog

from gateway import logs
from gateway.cli.options import config_option, data_dir_option, load_config
from gateway.components import type_of
from gateway.config import Config, ConfigError, Problem
from gateway.datadir import DataDir, DataDirError
from gateway.extensions.gate.config import GateConfig
from gateway.extensions.gate.record import RecordFile
from gateway.extensions.gate.tailscale import Tailscale, TailscaleError
from gateway.net.listeners import ListenerSettings, from_here
from gateway.terminal import safe

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SECOND = timedelta(seconds=1)
_TELEMETRY_SECONDS = 5.0
_DEFAULT_FRONT = "http://127.0.0.1:8085"
_CLOSED = 3
"""Exit code of `status` for a closed gate, as `systemctl is-active` has it for what does not run."""


@click.group()
def gate() -> None:
    """Open Tailscale Funnel for the webhook while the gateway is ready, and close it otherwise.

    Settings are those of the extension gate in the configuration file; without any, the path /api/v1/webhooks/github of
    the API front is exposed on port 443. No other path, port or entry of Tailscale is ever touched.
    """


@gate.command()
@config_option
@data_dir_option
def run(config_path: Path | None, data_dir: Path | None) -> None:
    """Watch the gateway, and open and close the gate, until SIGTERM or SIGINT; then close it.

    Begins by closing. Exits with 1 when the gate could not be closed for certain: `obs-hub gate close` tries again, and
    belongs into ExecStopPost= of a systemd unit.
    """
    from gateway.extensions.gate.gate import Gate
    from gateway.extensions.gate.readiness import ask
    from gateway.extensions.gate.record import AlreadyRunningError
    from gateway.extensions.gate.reporting import Reporter

    config = load_config(config_path, lenient=True)
    logs.configure(config.service.telemetry.logs.level, config.service.telemetry.logs.format)
    settings = _settings(config)
    api = _api(config, settings)
    if shutil.which(settings.command) is None:
        raise click.ClickException(
            f"there is no command {settings.command}: install Tailscale (https://tailscale.com/download), "
            "or set extensions.gate.command"
        )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    tailscale = _tailscale(settings, api)
    record = _record(data_dir)
    timeout = settings.timeout / _SECOND
    try:
        DataDir.resolve(data_dir).create()
        with record.locked():
            if former := _former(settings, api, record):
                former.close()
            reporter = Reporter(settings, {"obs_hub.gate.mode": settings.mode})
            _log.info(
                "the gate watches the hub", api=api, path=settings.path, port=settings.https_port, mode=settings.mode
            )
            try:
                closed = Gate(
                    settings,
                    tailscale,
                    lambda: ask(api, timeout),
                    record,
                    reporter,
                    stop,
                ).run()
            finally:
                reporter.stop(_TELEMETRY_SECONDS)
    except (AlreadyRunningError, TailscaleError, DataDirError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if not closed:
        raise click.exceptions.Exit(1)


@gate.command()
@config_option
@data_dir_option
def close(config_path: Path | None, data_dir: Path | None) -> None:
    """Close the gate now, whoever opened it. Exits with 1 when it is not closed for certain.

    For after a crash. A gate that still runs would open it again: stop that instead. Where the configuration cannot be
    used, for example since a secret in it cannot be had, what the last gate was set to is closed.
    """
    record = _record(data_dir)
    settings, api = _to_close(config_path, record)
    former = _former(settings, api, record)
    if record.running():
        click.echo("A gate is running, and will open it again when the gateway is ready; stop that gate.", err=True)
    deadline = time.monotonic() + settings.close_timeout / _SECOND
    while True:
        try:
            if former is not None:
                former.close()
            left = _tailscale(settings, api).close()
        except TailscaleError as error:
            if time.monotonic() >= deadline or shutil.which(settings.command) is None:
                raise click.ClickException(str(error)) from error
            time.sleep(1)
            continue
        click.echo(f"The gate is closed. On port {settings.https_port}: {left.describe()}.")
        return


@gate.command()
@click.option(
    "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to show it."
)
@config_option
@data_dir_option
def status(output: str, config_path: Path | None, data_dir: Path | None) -> None:
    """Show whether the gate is open, since when and why, and what Tailscale exposes on its port.

    Exits with 0 when it is open, with 3 when it is closed, and with 1 when something is wrong: Tailscale cannot be
    asked, something else is exposed than should be, or the gate is open and nobody watches it.
    """
    config = load_config(config_path, lenient=True)
    settings = _settings(config)
    tailscale = _tailscale(settings, _api(config, settings))
    record = _record(data_dir)
    running, last = record.running(), record.read()
    found, problem = None, None
    try:
        found = tailscale.exposure()
    except TailscaleError as error:
        problem, state = str(error), "unknown"
    else:
        state = "closed" if found.mount is None else "open"
        if state == "open" and not tailscale.is_as_it_should(found):
            problem = tailscale.obstacle(found) or f"it should be {tailscale.proxy} by {settings.mode}"
        elif state == "open" and not running:
            problem = (
                f"the gate is open, and no gate that would close it runs on {DataDir.resolve(data_dir)}: run "
                "`obs-hub gate close`; or name by --data-dir where it runs (as a systemd unit: /var/lib/obs-hub-gate)"
            )
    agrees = last is not None and last.state == state
    shown: dict[str, Any] = {
        "state": state,
        "since": datetime.fromtimestamp(last.since, UTC).isoformat(timespec="seconds") if last and agrees else None,
        "reason": last.reason if last and agrees else None,
        "running": running,
        "pid": last.pid if last and running else None,
        "exposed": None if found is None else asdict(found),
        "problem": problem,
    }
    if output == "json":
        click.echo(json.dumps(shown, indent=2))
    else:
        since = f" since {shown['since']}" if shown["since"] else ""
        click.echo(f"gate     {state}{since}")
        if shown["reason"]:
            click.echo(f"reason   {safe(str(shown['reason']))}")
        watcher = f"by process {shown['pid']}" if running else "by nobody: no gate runs"
        click.echo(f"watched  {watcher}")
        if found is not None:
            click.echo(f"exposed  {found.describe()}")
        if problem:
            click.echo(f"problem  {problem}")
    if problem or state != "open":
        raise click.exceptions.Exit(1 if problem else _CLOSED)


def _settings(config: Config) -> GateConfig:
    """Return the settings of the gate, with the telemetry's destination filled in.

    Ends where one of them cannot be had: what is set without it would open, and close, something else than was meant.
    """
    _end_where(_lacking(config, "gate"))
    found = {name: each for name, each in config.extensions.items() if isinstance(each, GateConfig)}
    if len(found) > 1:
        raise click.ClickException(f"the configuration has several gates ({', '.join(found)}); leave one")
    settings = next(iter(found.values()), GateConfig())
    telemetry = config.service.telemetry
    if settings.endpoint is None and telemetry.endpoint is not None:
        _end_where([problem for problem in config.lacking if problem.place[:2] == ("service", "telemetry")])
        return settings.model_copy(update={"endpoint": telemetry.endpoint, "headers": telemetry.headers})
    return settings


def _to_close(config_path: Path | None, record: RecordFile) -> tuple[GateConfig, str]:
    """Return the settings and the API front as configured; where that fails, what is needed to close the last gate."""
    try:
        config = load_config(config_path, lenient=True)
        settings = _settings(config)
        return settings, _api(config, settings)
    except click.ClickException as error:
        last = record.read()
        if last is None:
            raise
        click.echo(f"{error.message}\nWhat the last gate was set to is closed.", err=True)
        return GateConfig(https_port=last.port, path=last.path, command=last.command), _DEFAULT_FRONT


def _lacking(config: Config, kind: str) -> list[Problem]:
    """Return what could not be substituted in extensions of a type."""
    return [
        problem
        for problem in config.lacking
        if problem.place[:1] == ("extensions",) and type_of(str(problem.place[1])) == kind
    ]


def _end_where(lacking: list[Problem]) -> None:
    if lacking:
        raise click.ClickException(str(ConfigError(lacking)))


def _api(config: Config, settings: GateConfig) -> str:
    """Return the base URL of the API front on this machine."""
    if settings.target is not None:
        return settings.target
    fronts = (each for name, each in config.extensions.items() if type_of(name) == "api")
    front = next(fronts, None)
    if not isinstance(front, ListenerSettings):
        _end_where(_lacking(config, "api"))
        return _DEFAULT_FRONT
    return f"{'https+insecure' if front.tls else 'http'}://{from_here(front.endpoint)}"


def _tailscale(settings: GateConfig, api: str) -> Tailscale:
    timeout = settings.command_timeout / _SECOND
    # Tailscale takes the mount's path away from a request, so the target needs it too.
    proxy = api + settings.path
    return Tailscale(settings.command, settings.mode, settings.https_port, settings.path, proxy, timeout)


def _former(settings: GateConfig, api: str, record: RecordFile) -> Tailscale | None:
    """Return what an earlier gate may have left open elsewhere: it was killed, and then the settings were changed.

    Whether it did is for Tailscale to say: a gate that was killed had no time to write that down.
    """
    last = record.read()
    if last is None or (last.port, last.path) == (settings.https_port, settings.path):
        return None
    return _tailscale(settings.model_copy(update={"https_port": last.port, "path": last.path}), api)


def _record(data_dir: Path | None) -> RecordFile:
    place = DataDir.resolve(data_dir)
    return RecordFile(place.path / "gate")
