"""``obs-hub up`` and ``obs-hub serve``: run a hub until it is told to stop."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporters.timescale.layout import LayoutError
from exporters.timescale.schema import SchemaError
from gateway import logs
from gateway.cli.options import config_option, data_dir_option
from gateway.cli.waiting import load_when_possible
from gateway.config import Config
from gateway.datadir import DataDir, DataDirError
from gateway.embedded import EmbeddedPostgresError
from gateway.pipeline.postgres.dsn import shown

if TYPE_CHECKING:
    from gateway.supervisor import Announce

_FIRST_QUERY = (
    "SELECT DISTINCT ON (name, attributes) name, attributes, value, unit FROM metrics "
    "WHERE name ~ '^system.(uptime|cpu.load|memory.util)' ORDER BY name, attributes, time DESC"
)


@click.command()
@config_option
@data_dir_option
def up(config_path: Path | None, data_dir: Path | None) -> None:
    """Run the whole hub: embedded PostgreSQL, gateway and this machine's metrics.

    It listens on loopback for OTLP, gRPC on 4317 and HTTP on 4318, shows its page on 8085, and keeps everything in the
    data directory. Ctrl-C stops it; nothing that was acknowledged is lost.
    """

    def welcome(endpoints: dict[str, str], dsn: str | None) -> None:
        click.echo("\nThe hub is up.\n")
        for name, address in endpoints.items():
            what = "page" if name == "api" else f"OTLP/{name.split()[-1]}"
            click.echo(f"  {what:<12}http://{address}{'/' if name == 'api' else ''}")
        click.echo(f"  {'store':<12}{shown(dsn) if dsn else 'none'}")
        click.echo("\nThe first metrics of this machine arrive within seconds. In another terminal:\n")
        click.echo(f'  {_first_command(data_dir)} "{_FIRST_QUERY}"\n')
        click.echo("Ctrl-C stops the hub.")

    _run(load_when_possible(config_path), data_dir, 1, welcome)


@click.command()
@config_option
@data_dir_option
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that share the ports. More than one pays off when one core is not enough.",
)
def serve(config_path: Path | None, data_dir: Path | None, workers: int) -> None:
    """Run the gateway as a service, as its configuration file says.

    Logs go to standard error, one JSON object a line unless that is a terminal. SIGTERM stops it cleanly.
    """

    def announce(endpoints: dict[str, str], _: str | None) -> None:
        click.echo("ready: " + ", ".join(f"{name} on {address}" for name, address in endpoints.items()), err=True)

    _run(load_when_possible(config_path), data_dir, workers, announce)


def _first_command(data_dir: Path | None) -> str:
    """Return ``obs-hub query``, written so that it finds this hub from another terminal."""
    program = sys.argv[0]
    words = [sys.executable, "-m", "gateway"] if program.endswith("__main__.py") else [program]
    elsewhere = data_dir is not None or "OBSHUB_DATA_DIR" in os.environ
    return shlex.join([*words, "query", *(["--data-dir", str(DataDir.resolve(data_dir))] if elsewhere else [])])


def _run(config: Config, data_dir: Path | None, workers: int, announce: Announce) -> None:
    from gateway import supervisor

    logs.configure(config.service.telemetry.logs.level, config.service.telemetry.logs.format)
    try:
        supervisor.run(config, DataDir.resolve(data_dir), workers, announce)
    except (DataDirError, EmbeddedPostgresError, SchemaError, LayoutError, supervisor.WorkerError, OSError) as error:
        message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise click.ClickException(message) from error
