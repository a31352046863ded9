"""``obs-hub token``: who may use the gateway."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.base.settings import parse_duration, parse_size
from gateway.cli.options import config_option, data_dir_option, load_config
from gateway.datadir import DataDir
from gateway.extensions.tokens.config import TokensConfig
from gateway.extensions.tokens.token import Token, create
from gateway.extensions.tokens.token_file import TokenFile, TokenFileError
from gateway.net.access import Scope
from gateway.terminal import safe

if TYPE_CHECKING:
    from gateway.config import Config


@click.group()
def token() -> None:
    """Make, list and revoke the tokens that clients authenticate with.

    They are kept, hashed, in tokens.json in the data directory, or where the configuration says. A running hub notices
    a change within a second.
    """


def _read_by(parse: Callable[[object], Any]) -> Callable[..., Any]:
    def read(_: click.Context, __: click.Parameter, value: str | None) -> Any:
        if value is None:
            return None
        try:
            found = parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        if not found:
            raise click.BadParameter("expected more than nothing")
        return found

    return read


@token.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What it allows. May be repeated.",
)
@click.option("--expires", callback=_read_by(parse_duration), metavar="DURATION", help="After how long, such as 90d.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Requests a second it may make.")
@click.option(
    "--in-flight",
    callback=_read_by(parse_size),
    metavar="SIZE",
    help="Bytes it may have unanswered, decompressed; no request may be larger.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print the token and nothing else.")
@config_option
@data_dir_option
def create_token(
    name: str,
    scopes: tuple[str, ...],
    expires: Any,
    rate: float | None,
    in_flight: int | None,
    quiet: bool,
    config_path: Path | None,
    data_dir: Path | None,
) -> None:
    """Make a token and print it. It is shown this once: only a hash of it is kept."""
    config = load_config(config_path)
    try:
        made, text = create(name, map(Scope, scopes), lifetime=expires, rate=rate, in_flight=in_flight)
    except OverflowError:
        raise click.BadParameter(
            "too long; leave it out for a token that never expires", param_hint="--expires"
        ) from None
    except ValueError:
        raise click.BadParameter("expected 1 to 200 printable characters", param_hint="NAME") from None
    file = _file(_settings(config), data_dir)
    try:
        file.add(made)
    except TokenFileError as error:
        raise click.ClickException(str(error)) from error
    click.echo(text)
    if quiet:
        return
    click.echo("\nThis is the only time it is shown.")
    click.echo(f"To take it back: obs-hub token revoke {made.id}")
    if Scope.INGEST in made.scopes:
        click.echo(_HOW_TO_SEND.format(token=text))
    if not _asked_for(config):
        click.echo(
            "No listener asks for tokens yet. In the configuration file: 'extensions: {tokens: }', "
            "'service: {extensions: [tokens]}', and 'auth: {authenticator: tokens}' at the listener.",
            err=True,
        )


@token.command("list")
@config_option
@data_dir_option
def list_tokens(config_path: Path | None, data_dir: Path | None) -> None:
    """List the tokens: what they are for and what they allow, never the tokens themselves."""
    try:
        tokens = _file(_configured(config_path), data_dir).read()
    except TokenFileError as error:
        raise click.ClickException(str(error)) from error
    if not tokens:
        click.echo("There are none. Make one: obs-hub token create NAME --scope ingest")
        return
    rows = [("ID", "NAME", "SCOPES", "CREATED", "EXPIRES", "LIMITS"), *(tuple(map(safe, _row(one))) for one in tokens)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@token.command()
@click.argument("identity", metavar="ID")
@config_option
@data_dir_option
def revoke(identity: str, config_path: Path | None, data_dir: Path | None) -> None:
    """Take a token back. A running hub refuses it within a second."""
    try:
        revoked = _file(_configured(config_path), data_dir).revoke(identity)
    except TokenFileError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"revoked {revoked.id} ({safe(revoked.name)})")


def _configured(config_path: Path | None) -> TokensConfig:
    """Return the settings of the tokens. Those of the embedded default need no configuration to be loaded."""
    if config_path is None and not os.environ.get("OBSHUB_CONFIG"):
        return TokensConfig()
    return _settings(load_config(config_path))


def _settings(config: Config) -> TokensConfig:
    running = (config.extensions[name] for name in config.service.extensions)
    return next((each for each in running if isinstance(each, TokensConfig)), TokensConfig())


def _file(settings: TokensConfig, data_dir: Path | None) -> TokenFile:
    return TokenFile(settings.path(DataDir.resolve(data_dir).path))


def _asked_for(config: Config) -> bool:
    return any(isinstance(config.extensions[name], TokensConfig) for name in config.service.extensions)


def _row(token: Token) -> tuple[str, ...]:
    expires = "never"
    if token.expires_at is not None:
        left = token.expires_at - datetime.now(UTC)
        expires = f"{token.expires_at:%Y-%m-%d}" if left.total_seconds() > 0 else f"{token.expires_at:%Y-%m-%d} (over)"
    limits = [
        *([f"{token.rate:g}/s"] if token.rate is not None else []),
        *([f"{token.in_flight} B in flight"] if token.in_flight is not None else []),
    ]
    scopes = ",".join(sorted(token.scopes))
    return token.id, token.name, scopes, f"{token.created_at:%Y-%m-%d}", expires, ", ".join(limits) or "none"


_HOW_TO_SEND = """
For anything that uses an OpenTelemetry SDK:

  OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20{token}"

In Grafana Alloy:

  otelcol.auth.bearer "hub" {{
    token = sys.env("OBSHUB_TOKEN")
  }}
  otelcol.exporter.otlp "hub" {{
    client {{
      endpoint = "hub.example.com:4317"
      auth     = otelcol.auth.bearer.hub.handler
    }}
  }}

In an OpenTelemetry Collector:

  exporters:
    otlp:
      endpoint: hub.example.com:4317
      headers: {{authorization: "Bearer ${{env:OBSHUB_TOKEN}}"}}
"""
