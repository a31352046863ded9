"""``obs-hub store copy``: a store into another database."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.base.settings import parse_duration
from gateway.cli.opened_store import clear_progress, embedded_store, opened_store, reporting, say
from gateway.cli.options import config_option, data_dir_option, readable_dsn, running_hub
from gateway.datadir import DataDir
from gateway.terminal import show_progress

if TYPE_CHECKING:
    from gateway.store import CopyResult

_LOGGED_EVERY = 10.0
"""Seconds between lines that say how far it has come, where there is no terminal to show it on."""


def _duration(_context: click.Context, _option: click.Parameter, text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.option(
    "--from",
    "--dsn",
    "source",
    callback=readable_dsn,
    help="Connection string of the store to copy. Default: the one that is configured, or the embedded one.",
)
@click.option(
    "--to",
    "target",
    envvar="OBSHUB_COPY_TO",
    callback=readable_dsn,
    help="Connection string of an empty database to copy into. Better in $OBSHUB_COPY_TO where it holds a password: "
    "other users of this machine can see the options given.",
)
@click.option(
    "--to-data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Instead of --to: the data directory of an embedded PostgreSQL, which is made where there is none.",
)
@click.option(
    "--layout",
    type=click.Choice(["auto", "timescale", "native"]),
    default="auto",
    show_default=True,
    help="Layout of the new store. auto: timescale where the server offers it.",
)
@click.option(
    "--chunk-interval",
    default="1d",
    show_default=True,
    callback=_duration,
    help="The time that a chunk or partition of the new store spans; as exporters.timescale.chunk_interval will be.",
)
@click.option(
    "--while-running",
    is_flag=True,
    help="Copy what there is while gateways write. Not the end of it: stop them, and run this again without.",
)
@config_option
@data_dir_option
def copy(
    source: str | None,
    target: str | None,
    to_data_dir: Path | None,
    layout: str,
    chunk_interval: timedelta,
    while_running: bool,
    config_path: Path | None,
    data_dir: Path | None,
) -> None:
    """Copy the whole store into another database: all records, rollups, receipts and runs.

    From the embedded PostgreSQL to a server, from plain PostgreSQL to TimescaleDB, and back; nothing changes in the
    store that is copied. Run it again after whatever broke it off: it goes on where it was. At the end every table is
    compared, by its rows and a checksum. Stop the gateways first; of a large store, most can be copied before that:

    \b
    obs-hub store copy --to postgresql://obs_hub@db/obs_hub --while-running
    systemctl stop obs-hub
    obs-hub store copy --to postgresql://obs_hub@db/obs_hub

    Then name the new database in the configuration (exporters.timescale.dsn), and start the gateways.
    """
    from gateway.store import copy_store

    if (target is None) == (to_data_dir is None):
        raise click.UsageError("say where to: either --to (or $OBSHUB_COPY_TO) or --to-data-dir")
    if source is None and not while_running and (running := running_hub(data_dir)) is not None:
        raise click.ClickException(
            f"a hub (pid {running.pid}) runs on the store that is to be copied. Stop it first; or copy what there is "
            "with --while-running, then stop it and run this again without, which copies what has come since"
        )
    with reporting(), contextlib.ExitStack() as stack:
        of_source = stack.enter_context(opened_store(source, config_path, data_dir, make=False))
        server = None
        if to_data_dir is not None:
            server = stack.enter_context(embedded_store(DataDir.resolve(to_data_dir)))
            target = server.dsn
        assert target is not None
        result = copy_store(
            of_source,
            target,
            wanted_layout=layout,
            chunk_interval=chunk_interval,
            while_running=while_running,
            say=say,
            show=_Shown(),
            revive=None if server is None else server.start,
        )
    clear_progress()
    _print(result, to_data_dir)


class _Shown:
    """Shows how far it has come: at a terminal at once, and else as a line from time to time."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _LOGGED_EVERY

    def __call__(self, text: str) -> None:
        if sys.stderr.isatty():
            show_progress(text)
        elif time.monotonic() > self._next:
            self._next = time.monotonic() + _LOGGED_EVERY
            click.echo(text.rstrip(), err=True)


def _print(result: CopyResult, to_data_dir: Path | None) -> None:
    rate = f", {result.rows / result.seconds:,.0f} a second" if result.rows and result.seconds > 0 else ""
    if not result.finished:
        click.echo(
            f"Copied {result.rows:,} rows in {result.seconds:,.0f} s{rate}. Not done: stop the gateways, and run this "
            "again without --while-running, which copies what has changed since and compares all."
        )
        return
    described = result.present.describe()
    click.echo(f"{'table':<24}{'rows':>16}  checksum, the same in both")
    for table in result.tables:
        click.echo(f"{table.name:<24}{table.rows:>16,}  {table.checksum}")
    click.echo(
        f"The store is copied: {sum(table.rows for table in result.tables):,} rows are there and compared, "
        f"{result.rows:,} of them copied now, in {result.seconds:,.0f} s. {described[0].upper()}{described[1:]}."
    )
    new = (
        "Name the new database in the configuration (exporters.timescale.dsn) and start the gateways; what is in their "
        "spools goes there"
    )
    if to_data_dir is not None:
        where = shlex.quote(str(to_data_dir))
        new = f"Start the hub with --data-dir {where}, and a configuration without exporters.timescale.dsn"
    click.echo(
        f"{new}. Readers for Grafana are no part of it: make them by `obs-hub db reader NAME`. "
        "The old store is as it was; remove it when you are content."
    )
    if to_data_dir is not None:
        click.echo(
            "Tokens and spools stay where they are, in the data directory of the old hub (tokens.json, spool): where "
            "that is another one, copy them, too."
        )
