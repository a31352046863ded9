"""``obs-hub db backup`` and ``obs-hub db restore``: the store in one file, and back."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from gateway.cli.opened_store import clear_progress, opened_store, reporting, say
from gateway.cli.options import config_option, data_dir_option, dsn_option
from gateway.datadir import DataDir
from gateway.embedded import EmbeddedPostgresError
from gateway.embedded import binaries as embedded_binaries
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
    with reporting(), opened_store(dsn, config_path, data_dir, make=False) as store:
        made = back_up(store, directory, keep=keep, bin_dirs=_bin_dirs(bin_dir), progress=_show_progress)
    clear_progress()
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

    with reporting(), opened_store(dsn, config_path, data_dir, make=True) as store:
        if replace:
            present, former = restore_in_place(store, file, bin_dirs=_bin_dirs(bin_dir), say=say)
        else:
            present, former = restore_empty(store, file, bin_dirs=_bin_dirs(bin_dir), say=say), ""
    click.echo(f"The store is restored: {present.describe()}.")
    if former:
        click.echo(
            f'The former one is the database "{former}"; when it is not needed any more: DROP DATABASE "{former}"'
        )
    click.echo("Readers for Grafana are no part of a backup: make them by `obs-hub db reader NAME`.")


def _bin_dirs(given: Path | None) -> list[Path]:
    if given is not None:
        return [given]
    with contextlib.suppress(EmbeddedPostgresError):
        return [embedded_binaries()]
    return []


def _show_progress(written: int) -> None:
    show_progress(f"{written / _MEBIBYTE:.1f} MiB ")
