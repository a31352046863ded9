"""``obs-hub config``: the configuration file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gateway.cli.options import config_option, load_config
from gateway.config import schema as json_schema
from gateway.config import show as as_yaml


@click.group()
def config() -> None:
    """Check and explain the configuration."""


@config.command()
@config_option
def check(config_path: Path | None) -> None:
    """Check a configuration file and say every mistake in it, with its line. Exits with 1 when there are any."""
    found = load_config(config_path)
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
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
