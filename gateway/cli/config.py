"""``obs-hub config``: the configuration file."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from gateway.cli.options import config_option, load_config
from gateway.config import NO_FRONT, STARTER_YAML
from gateway.config import schema as json_schema
from gateway.config import show as as_yaml
from gateway.files.durability import mode_of, replace_file


@click.group()
def config() -> None:
    """Begin, check and explain a configuration file."""


@config.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default="hub.yaml")
@click.option("--force", is_flag=True, help="Write it even where there is a file of that name, whose content is lost.")
def init(file: Path, force: bool) -> None:
    """Write a configuration file to begin with, with comments: FILE, or hub.yaml.

    It does what the hub does without one. A file that is there already stays, unless told otherwise by --force.
    """
    try:
        if force:
            replace_file(file, STARTER_YAML.encode(), mode=mode_of(file))
        else:
            with file.open("x", encoding="utf-8") as made:
                made.write(STARTER_YAML)
    except FileExistsError:
        raise click.ClickException(
            f"{file} is there already and was left as it is; name another FILE, or overwrite it by --force"
        ) from None
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}") from error
    named = shlex.quote(str(file))
    click.echo(f"Wrote {file}. Change it, then:\n\n  obs-hub config check -c {named}\n  obs-hub up -c {named}")


@config.command()
@config_option
def check(config_path: Path | None) -> None:
    """Check a configuration file and say every mistake in it, with its line. Exits with 1 when there are any."""
    found = load_config(config_path)
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    if not found.has_front:
        click.echo(f"note: {NO_FRONT}", err=True)
    click.echo(f"{found.source or 'The embedded default'} is valid.")


@config.command()
@config_option
def show(config_path: Path | None) -> None:
    """Print the configuration in effect, defaults included and secrets masked."""
    click.echo(as_yaml(load_config(config_path)), nl=False)


@config.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    click.echo(json.dumps(json_schema(), indent=2))
