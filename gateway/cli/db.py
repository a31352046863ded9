"""``obs-hub db``: the store, its schema and its backups."""

from __future__ import annotations

from pathlib import Path

import click
import psycopg

from gateway.cli.database_errors import error_text
from gateway.cli.db_backup import backup, restore
from gateway.cli.db_copy import copy
from gateway.cli.db_reader import reader
from gateway.cli.options import config_option, data_dir_option, dsn_option, store_dsn
from gateway.store import (
    RESTORE_UNFINISHED,
    Connections,
    LayoutError,
    Progress,
    SchemaError,
    progress,
    schema_status,
)
from gateway.store import (
    migrate as bring_up_to_date,
)


@click.group()
def db() -> None:
    """Look after the store.

    The gateway migrates its store when it starts; `migrate` and `status` do and show the same by hand. `reader` makes
    a database user for Grafana. `backup` writes the store into a file, `restore` makes a store from one, and `copy`
    one in another database, such as that of a server. `obs-hub store` is another name of `obs-hub db`.
    """


store = db

db.add_command(reader)
db.add_command(backup)
db.add_command(restore)
db.add_command(copy)


@db.command()
@click.option(
    "--layout",
    type=click.Choice(["auto", "timescale", "native"]),
    default="auto",
    show_default=True,
    help="Layout of a store that does not exist yet.",
)
@config_option
@data_dir_option
@dsn_option
def migrate(layout: str, config_path: Path | None, data_dir: Path | None, dsn: str | None) -> None:
    """Bring the schema up to date. Safe to run while gateways run, and several at once."""
    target = Connections(store_dsn(dsn, config_path, data_dir))
    try:
        pending = schema_status(target).pending
        present = bring_up_to_date(target, layout)
    except (SchemaError, LayoutError) as error:
        raise click.ClickException(str(error)) from error
    except psycopg.Error as error:
        raise click.ClickException(f"PostgreSQL is not available: {error_text(error)}") from error
    for revision in pending:
        click.echo(f"applied {revision}")
    click.echo(f"The schema is up to date: {present.describe()}.")


@db.command()
@config_option
@data_dir_option
@dsn_option
def status(config_path: Path | None, data_dir: Path | None, dsn: str | None) -> None:
    """Show which migrations the store has, and what is left of how an earlier version kept points.

    Exits with 1 when migrations are pending.
    """
    reached: Progress | None = None
    try:
        connections = Connections(store_dsn(dsn, config_path, data_dir))
        found = schema_status(connections)
        if found.layout is not None and not found.pending:
            with connections.open() as connection:
                reached = progress(connection, found.layout)
    except SchemaError as error:
        raise click.ClickException(str(error)) from error
    except psycopg.Error as error:
        raise click.ClickException(f"PostgreSQL is not available: {error_text(error)}") from error
    if found.unfinished:
        raise click.ClickException(RESTORE_UNFINISHED)
    if found.layout is not None:
        click.echo(found.layout.describe())
    for revision in found.applied:
        click.echo(f"applied  {revision}")
    for revision in found.pending:
        click.echo(f"pending  {revision}")
    if found.newer is not None:
        click.echo(f"newer    {found.newer}: a later version migrated the store; this one can write to it")
    if reached is not None:
        _show(reached)
    if found.pending:
        click.echo("Run `obs-hub db migrate`, or start the gateway.")
        raise click.exceptions.Exit(1)


def _show(reached: Progress) -> None:
    """Say how far a store has come that an earlier version made; nothing for one that has."""
    if reached.unseen:
        click.echo(f"Of {reached.unseen} metrics a gateway is yet to look for when they were first and last observed.")
    if reached.since is None:
        return
    if not reached.left:
        click.echo(f"Nothing is left of how points were kept before {reached.since:%Y-%m-%d}.")
        return
    click.echo(f"Points are stored in less space since {reached.since:%Y-%m-%d %H:%M} UTC. Of before there are:")
    for left in reached.left:
        rows = f"about {left.rows:,} rows, " if left.rows else ""
        click.echo(f"  {left.table}: {rows}{left.size / 2**20:,.1f} MiB, the latest of {left.until:%Y-%m-%d}")
    click.echo("They are read like all others, and go when retention.metrics drops them.")
