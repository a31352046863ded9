"""Options that several commands have, and how they find the hub they are about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from gateway.assembly import configured_dsn
from gateway.config import Config, ConfigError, load, resolve_path
from gateway.datadir import DataDir, DataDirError, Running, read_running
from gateway.pipeline.destination import check_header_value

_F = TypeVar("_F", bound=Callable[..., Any])


def config_option(function: _F) -> _F:
    """Add ``--config``."""
    return click.option(
        "-c",
        "--config",
        "config_path",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Configuration file. Default: $OBSHUB_CONFIG, or the embedded defaults.",
    )(function)


def data_dir_option(function: _F) -> _F:
    """Add ``--data-dir``."""
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="Where the hub keeps its data. Default: $OBSHUB_DATA_DIR, or the XDG state folder.",
    )(function)


def dsn_option(function: _F) -> _F:
    """Add ``--dsn``."""
    return click.option(
        "--dsn", help="PostgreSQL connection string of the store. Default: the one of the running hub, or configured."
    )(function)


def _sendable(_: click.Context, __: click.Parameter, token: str | None) -> str | None:
    """Return a token without the line break of the file it was read from. One that cannot be sent ends the command:
    libraries that find it out tell the token."""
    if token is None:
        return None
    try:
        return check_header_value(token.strip())
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def token_option(function: _F) -> _F:
    """Add ``--token``."""
    return click.option(
        "--token",
        envvar="OBSHUB_TOKEN",
        callback=_sendable,
        help="Token for the gateway. Better in $OBSHUB_TOKEN: other users of this machine can see the options given.",
    )(function)


def ca_file_option(function: _F) -> _F:
    """Add ``--ca-file``."""
    return click.option(
        "--ca-file",
        envvar="OTEL_EXPORTER_OTLP_CERTIFICATE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="CA of the gateway's certificate, in PEM, for https:// endpoints. Default: the system's CAs.",
    )(function)


def client_certificate_options(function: _F) -> _F:
    """Add ``--client-cert`` and ``--client-key``."""
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    for option in (
        click.option(
            "--client-key",
            envvar="OTEL_EXPORTER_OTLP_CLIENT_KEY",
            type=file,
            help="Private key of --client-cert, in PEM.",
        ),
        click.option(
            "--client-cert",
            envvar="OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
            type=file,
            help="Certificate to present, in PEM, to a gateway that asks clients for one (mTLS).",
        ),
    ):
        function = option(function)
    return function


def load_config(config_path: Path | None) -> Config:
    """Load the configuration, or end with its errors, one a line."""
    try:
        return load(resolve_path(config_path))
    except ConfigError as error:
        raise click.ClickException(str(error)) from error


def running_hub(data_dir: Path | None) -> Running | None:
    """Return what the hub that runs on a data directory says of itself, or None."""
    try:
        return read_running(DataDir.resolve(data_dir))
    except DataDirError as error:
        raise click.ClickException(str(error)) from error


def without_password(dsn: str) -> str:
    """Return a connection string as it may be shown."""
    return make_conninfo(dsn, password="********") if "password" in conninfo_to_dict(dsn) else dsn  # noqa: S106


def store_dsn(dsn: str | None, config_path: Path | None, data_dir: Path | None) -> str:
    """Return the store to talk to: as given, of the running hub, or configured. Ends with what to do otherwise."""
    if dsn:
        return dsn
    running = running_hub(data_dir)
    if running is not None and running.dsn:
        return running.dsn
    configured = configured_dsn(load_config(config_path))
    if configured:
        return configured
    raise click.ClickException(
        f"no hub runs on {DataDir.resolve(data_dir)}, and its embedded PostgreSQL with it; "
        "start one with `obs-hub up`, name another --data-dir, or give --dsn"
    )
