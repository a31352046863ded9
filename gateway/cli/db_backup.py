"""``obs-hub db backup`` and ``obs-hub db restore``: the store in one file, and back."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import click
import psycopg

from gateway.cli.database_errors import error_text
from gateway.cli.options import config_option, data_dir_option, dsn_option, find_store
from gateway.datadir import DataDir, DataDirError
from gateway.embedded import EmbeddedPostgres, EmbeddedPostgresError
from gateway.embedded import binaries as embedded_binaries
from gateway.store import BackupError, LayoutError
from gateway.terminal import show_progress

_MEBIBYTE = 2**20

_bin_dir_option = click.option(
    "--bin-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where pg_dump and pg_restore are. Default: those that fit the server best, of PATH and of the hub itself.",
)


@click.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for the backup. Default: backup in the data directory; better on another disk.",
)
@click.option(
    "--keep", type=click.IntRange(min=1), help="Remove the oldest backups of this store beyond so many. Default: none."
)
@_bin_dir_option
@config_option
@data_dir_option
@dsn_option
def backup(
    output: Path | None,
    keep: int | None,
    bin_dir: Path | None,
    config_path: Path | None,
    data_dir: Path | None,
    dsn: str | None,
) -> None:
    """Back up the store into a new file, while gateways run.

    The file has its name once it is complete, on disk, and was read back; only then are older ones removed. It is what
    pg_dump writes in its custom format. Prints where it is.

    \b
    obs-hub db backup --output /mnt/nas/obs-hub --keep 7
    """
    from gateway.store import back_up

    directory = output or DataDir.resolve(data_dir).path / "backup"
    with _reporting(), _store(dsn, config_path, data_dir, make=False) as store:
        made = back_up(store, directory, keep=keep, bin_dirs=_bin_dirs(bin_dir), progress=_show_progress)
    _clear_progress()
    click.echo(f"{made.path} ({made.size / _MEBIBYTE:.1f} MiB)")
    for each in made.removed:
        click.echo(f"removed {each.name}")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Restore beside the store there is, and take its place.")
@_bin_dir_option
@config_option
@data_dir_option
@dsn_option
def restore(
    file: Path,
    replace: bool,
    bin_dir: Path | None,
    config_path: Path | None,
    data_dir: Path | None,
    dsn: str | None,
) -> None:
    """Restore the store from a FILE that `obs-hub db backup` made. Stop the gateways first.

    The database must be empty; without one, the hub's embedded PostgreSQL is made. With --replace, the backup is
    restored into a new database that then takes the name of the one there is, which is kept under another name.

    \b
    obs-hub db restore /mnt/nas/obs-hub/obs_hub-20261124T031500Z-native.dump
    """
    from gateway.store import restore as restore_empty
    from gateway.store import restore_in_place

    with _reporting(), _store(dsn, config_path, data_dir, make=True) as store:
        if replace:
            present, former = restore_in_place(store, file, bin_dirs=_bin_dirs(bin_dir), say=_say)
        else:
            present, former = restore_empty(store, file, bin_dirs=_bin_dirs(bin_dir), say=_say), ""
    click.echo(f"The store is restored: {present.describe()}.")
    if former:
        click.echo(
            f'The former one is the database "{former}"; when it is not needed any more: DROP DATABASE "{former}"'
        )
    click.echo("Readers for Grafana are no part of a backup: make them by `obs-hub db reader NAME`.")


@contextlib.contextmanager
def _store(dsn: str | None, config_path: Path | None, data_dir: Path | None, *, make: bool) -> Iterator[str]:
    """Yield the store's connection string: as given, of the running hub, configured, or of the embedded server.

    The latter is started for the length of the block when no hub runs; with ``make``, it is made where there is none.
    """
    if (found := find_store(dsn, config_path, data_dir)) is not None:
        yield found.dsn
        return
    place = DataDir.resolve(data_dir)
    if not make and not (place.postgres / "data").exists():
        raise click.ClickException(f"there is no store in {place}; name another --data-dir, or give --dsn")
    try:
        with place.locked(), EmbeddedPostgres(place.postgres) as postgres:
            yield postgres.dsn
    except (DataDirError, EmbeddedPostgresError) as error:
        raise click.ClickException(str(error)) from error


@contextlib.contextmanager
def _reporting() -> Iterator[None]:
    """Turn errors into messages, and let SIGTERM end the work like Ctrl-C, so that nothing half-made is left."""
    previous = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    except (BackupError, LayoutError) as error:
        _clear_progress()
        raise click.ClickException(str(error)) from error
    except psycopg.Error as error:
        raise click.ClickException(f"PostgreSQL refuses or is not available: {error_text(error)}") from error
    finally:
        signal.signal(signal.SIGTERM, previous)


def _end(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def _bin_dirs(given: Path | None) -> list[Path]:
    if given is not None:
        return [given]
    with contextlib.suppress(EmbeddedPostgresError):
        return [embedded_binaries()]
    return []


def _show_progress(written: int) -> None:
    show_progress(f"{written / _MEBIBYTE:.1f} MiB ")


def _clear_progress() -> None:
    show_progress("")


def _say(what: str) -> None:
    click.echo(what, err=True)
