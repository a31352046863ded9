"""Options that ``logs``, ``traces`` and ``metrics`` share, and what they open."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
import psycopg

from gateway.base.instants import parse_instant
from gateway.base.settings import parse_duration
from gateway.cli.database_errors import error_text
from gateway.cli.options import config_option, data_dir_option, dsn_option, load_config, reading_dsn
from gateway.net.loki import HasLoki, LokiAccess
from gateway.query.errors import PatternError, QueryError
from gateway.query.limits import UNBOUNDED, Usage
from gateway.query.logs.records import LogSource, SourceError
from gateway.query.logs.store import StoreLogs
from gateway.query.reading.connection import Readers
from gateway.query.store import Store

_F = TypeVar("_F", bound=Callable[..., Any])


def _instant(_context: click.Context, option: click.Parameter, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_instant(text, datetime.now().astimezone())
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}", param=option) from error


def pairs(_context: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Read ``KEY=VALUE``, several times; a callback of an option."""
    read = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", param=option)
        read.append((key, value))
    return tuple(read)


def nanoseconds(_context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """Read a duration; a callback of an option."""
    if text is None:
        return None
    try:
        return parse_duration(text) // timedelta(microseconds=1) * 1000
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}", param=option) from error


@dataclass(frozen=True, slots=True)
class Places:
    """Where the user said, or did not say, that telemetry is to be read."""

    config_path: Path | None
    data_dir: Path | None
    dsn: str | None
    loki: str | None = None
    loki_tenant: str | None = None
    loki_ca_file: Path | None = None
    source: str | None = None

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Places:
        """Take these options out of those of a command."""
        return cls(**{name: options.pop(name) for name in cls.__slots__ if name in options})

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        """Open the store. What goes wrong in the block ends the command with a message."""
        try:
            dsn = reading_dsn(self.dsn, self.config_path, self.data_dir)
            with contextlib.closing(Readers(lambda: dsn, seconds=None)) as readers:
                yield Store.by(readers, Usage(UNBOUNDED))
        except psycopg.Error as error:
            raise click.ClickException(f"the store cannot be read: {error_text(error)}") from error
        except PatternError as error:
            raise click.ClickException(f"--grep: {error}") from error
        except QueryError as error:
            cause = error.__cause__
            said = error_text(cause) if isinstance(cause, psycopg.Error) else str(error)
            raise click.ClickException(f"the store cannot be read: {said}") from error
        except UnicodeEncodeError as error:
            raise click.UsageError(f"{error.object!r} is no UTF-8; the store has no other text") from error

    @contextlib.contextmanager
    def logs(self) -> Iterator[list[LogSource]]:
        """Open what logs are read from: Loki where there is one, and the store. Errors end the command."""
        access = None if self.source == "store" else self._loki()
        if access is None and self.source == "loki":
            raise click.UsageError("no Loki is known: give --loki URL, or name a configuration with an exporter loki")
        with contextlib.ExitStack() as opened:
            try:
                sources: list[LogSource] = []
                if self.source != "loki":
                    sources.append(StoreLogs(opened.enter_context(self.store())))
                if access is not None:
                    from gateway.query.logs.loki import LokiLogs  # httpx takes a while to import

                    sources.append(opened.enter_context(LokiLogs(access)))
                yield sources
            except SourceError as error:
                choice = "; --source store or --source loki reads one alone"
                raise click.ClickException(f"{error}{choice if self.source and len(sources) > 1 else ''}") from error

    def _loki(self) -> LokiAccess | None:
        """Return where Loki is and how it is entered, or None where none is known."""
        given: dict[str, Any] = {
            "tenant": self.loki_tenant,
            "token": os.environ.get("OBSHUB_LOKI_TOKEN"),
            "ca_file": self.loki_ca_file,
        }
        if self.loki:
            return LokiAccess(self.loki, **given)
        config = load_config(self.config_path)
        used = (config.exporters[name] for name in config.used_exporters)
        access = next((each.loki for each in used if isinstance(each, HasLoki)), None)
        return access and replace(access, **{key: value for key, value in given.items() if value})


def store_options(function: _F) -> _F:
    """Add the options that say where the store is."""
    return dsn_option(data_dir_option(config_option(function)))


def loki_options(function: _F) -> _F:
    """Add the options that say where Loki is."""
    for option in (
        click.option(
            "--loki-ca-file",
            envvar="OBSHUB_LOKI_CA_FILE",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="CA of Loki's certificate, in PEM. Default: the system's CAs.",
        ),
        click.option("--loki-tenant", envvar="OBSHUB_LOKI_TENANT", help="Tenant: X-Scope-OrgID."),
        click.option(
            "--loki",
            envvar="OBSHUB_LOKI_URL",
            metavar="URL",
            help="Loki to read logs from besides the store. A token belongs in $OBSHUB_LOKI_TOKEN. "
            "Default: $OBSHUB_LOKI_URL, or that of the configured exporter loki.",
        ),
    ):
        function = option(function)
    return function


def time_options(default: str) -> Callable[[_F], _F]:
    """Add ``--since`` and ``--until``; `default` says what is read without."""
    since = click.option(
        "--since",
        metavar="TIME",
        callback=_instant,
        help=f"Start: a duration before now (15m, 1h30m, 7d), or a time (2026-01-31T14:00). Default: {default}.",
    )
    until = click.option("--until", metavar="TIME", callback=_instant, help="End, written as --since. Default: now.")
    return lambda function: since(until(function))


color_option = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="Colours: on a terminal (the default), always, or never. $NO_COLOR turns them off.",
)
