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
    SchemaError,
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
    """Show which migrations the store has. Exits with 1 when some are pending."""
    try:
        found = schema_status(Connections(store_dsn(dsn, config_path, data_dir)))
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
    if found.pending:
        click.echo("Run `obs-hub db migrate`, or start the gateway.")
        raise click.exceptions.Exit(1)
