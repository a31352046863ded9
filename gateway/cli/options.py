"""Options that several commands have, and how they find the hub they are about.

What only some commands need is imported by the function that needs it: no command loads what only others use.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gateway.datadir import DataDir, DataDirError, Running, read_running

if TYPE_CHECKING:
    from gateway.config import Config

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


def readable_dsn(_context: click.Context, _option: click.Parameter, dsn: str | None) -> str | None:
    """Return a connection string that can be read; else end the command with why not."""
    if dsn:
        from gateway.store import check_dsn

        try:
            check_dsn(dsn)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
    return dsn


def dsn_option(function: _F) -> _F:
    """Add ``--dsn``."""
    return click.option(
        "--dsn",
        callback=readable_dsn,
        help="PostgreSQL connection string of the store. Default: the one that is configured, or of the running hub.",
    )(function)


def _sendable(_: click.Context, __: click.Parameter, token: str | None) -> str | None:
    """Return a token without the line break of the file it was read from. One that cannot be sent ends the command:
    libraries that find it out tell the token."""
    if token is None:
        return None
    from gateway.net.destination import check_header_value

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


def load_config(config_path: Path | None, *, lenient: bool = False) -> Config:
    """Load the configuration, or end with its errors, one a line. ``lenient``: secrets may be lacking, see `load`."""
    from gateway.config import ConfigError, load, resolve_path

    try:
        return load(resolve_path(config_path), lenient=lenient)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error


def running_hub(data_dir: Path | None) -> Running | None:
    """Return what the hub that runs on a data directory says of itself, or None."""
    try:
        return read_running(DataDir.resolve(data_dir))
    except DataDirError as error:
        raise click.ClickException(str(error)) from error


@dataclass(frozen=True, slots=True)
class StorePlace:
    """Where a store is: how whoever writes connects to it, and whoever reads, where that is configured."""

    dsn: str
    reader_dsn: str | None = None


def find_store(dsn: str | None, config_path: Path | None, data_dir: Path | None) -> StorePlace | None:
    """Find the store: as given, as configured, or the embedded one of the running hub; None where there is none.

    What the configuration says now goes before what the hub has written down at its start: a password may have been
    rotated. Without a configuration of one's own it is the running hub's. Ends with what to do where that cannot be
    read.
    """
    if dsn:
        return StorePlace(dsn)
    from gateway.assembly import configured_dsn, configured_reader_dsn
    from gateway.config import ConfigError, load, resolve_path

    running = running_hub(data_dir)
    named = resolve_path(config_path)
    try:
        config = load(named or (trusted_file(running.config) if running and running.config else None), lenient=True)
        if lacking := [problem for problem in config.lacking if problem.place[-1:] in (("dsn",), ("reader_dsn",))]:
            raise ConfigError(lacking)
    except ConfigError as error:
        if running is not None and running.dsn:
            return StorePlace(running.dsn)
        if named is None and running is not None:
            raise click.ClickException(
                f"{error}\nThe hub does not write down how it connects to its store, for that holds a password. Run "
                "this with what its configuration needs, such as its environment, or give --dsn"
            ) from error
        raise click.ClickException(str(error)) from error
    configured = configured_dsn(config) or (running.dsn if running else None)
    return StorePlace(configured, configured_reader_dsn(config)) if configured else None


def trusted_file(config: str) -> Path | None:
    """Return the file that a hub says it is configured by, unless another user could have written it.

    A configuration reads files: whoever runs a command as root must not be led to one by who may only run a hub.
    """
    path = Path(config)
    try:
        found = path.stat()
    except OSError:
        return path  # reading it will tell
    safe = found.st_uid in (0, os.geteuid()) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not safe:
        raise click.ClickException(f"{path}, by which the hub is configured, may be written by others; name --config")
    return path


def store_dsn(dsn: str | None, config_path: Path | None, data_dir: Path | None) -> str:
    """Return the connection string of the store (see `find_store`). Ends with what to do where there is none."""
    return _found(dsn, config_path, data_dir).dsn


def reading_dsn(
    dsn: str | None, config_path: Path | None, data_dir: Path | None, *, any_statement: bool = False
) -> str:
    """Return the connection string by which the store is read: of a user who may do nothing else, where possible.

    Where not, and ``any_statement`` may be run, says so, or ends the command if it could do harm.
    """
    place = _found(dsn, config_path, data_dir)
    if place.reader_dsn is not None:
        return place.reader_dsn
    from gateway.store import LoginError, reader_login

    try:
        login = reader_login(place.dsn)
    except LoginError as error:
        if any_statement:
            raise click.ClickException(str(error)) from error
        return place.dsn
    if any_statement and login.note:
        click.echo(f"Note: {login.note}", err=True)
    return login.dsn


def _found(dsn: str | None, config_path: Path | None, data_dir: Path | None) -> StorePlace:
    place = find_store(dsn, config_path, data_dir)
    if place is None:
        raise click.ClickException(
            f"no hub runs on {DataDir.resolve(data_dir)}, and its embedded PostgreSQL with it; "
            "start one with `obs-hub up`, name another --data-dir, or give --dsn"
        )
    return place
