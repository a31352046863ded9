"""``obs-hub assets``: dashboards and configurations for the programs around the hub."""

from __future__ import annotations

import os
from pathlib import Path

import click

from gateway.assets import ASSETS, ChangedFilesError, UnknownAssetError, copy, files


@click.group()
def assets() -> None:
    """Dashboards and provisioning for Grafana, configurations for Alloy, the Collector, Loki and OpenBao.

    They come with the hub. How they are set up is in docs/grafana.md and docs/alloy.md.
    """


@assets.command("list")
def list_assets() -> None:
    """List what there is: its name, what it is, and where it usually goes."""
    for asset in ASSETS:
        click.echo(f"{asset.name}\n    {asset.what}; goes to {asset.usual_place}")
        for file in files(asset.name):
            if file != asset.name:
                click.echo(f"      {file}")


@assets.command("copy")
@click.argument("name")
@click.argument("target", type=click.Path(path_type=str))
@click.option("--force", is_flag=True, help="Overwrite files of another content.")
def copy_assets(name: str, target: str, force: bool) -> None:
    """Copy a file, or what is in a folder, to TARGET. NAME is one that `obs-hub assets list` shows.

    A file of another content stays, and nothing is copied, unless told otherwise by --force.

    \b
    obs-hub assets copy grafana/dashboards /var/lib/grafana/dashboards/obs-hub
    obs-hub assets copy alloy/config.alloy /etc/alloy/
    """
    place = Path(target)
    try:
        copied = copy(name, place, into=target.endswith(os.sep) or place.is_dir(), overwrite=force)
    except UnknownAssetError:
        raise click.ClickException(f"there is no '{name}'; see `obs-hub assets list`") from None
    except ChangedFilesError as error:
        listed = "".join(f"\n  {file}" for file in error.files)
        raise click.ClickException(
            f"of another content, so nothing was copied:{listed}\nCompare them, or overwrite them by --force"
        ) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename or place} cannot be used: {error.strerror}") from error
    for file, written in copied.items():
        click.echo(f"{'wrote' if written else 'unchanged'} {file}")
