"""What takes long on a whole store: opening it, the embedded one too, and telling how the work goes."""

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
from gateway.cli.options import find_store
from gateway.datadir import DataDir, DataDirError
from gateway.embedded import EmbeddedPostgres, EmbeddedPostgresError
from gateway.store import BackupError, CopyError, LayoutError, SchemaError
from gateway.terminal import show_progress


@contextlib.contextmanager
def opened_store(dsn: str | None, config_path: Path | None, data_dir: Path | None, *, make: bool) -> Iterator[str]:
    """Yield the store's connection string: as given, of the running hub, configured, or of the embedded server.

    The latter is started for the length of the block when no hub runs; with ``make``, it is made where there is none.
    """
    if (found := find_store(dsn, config_path, data_dir)) is not None:
        yield found.dsn
        return
    place = DataDir.resolve(data_dir)
    if not make and not (place.postgres / "data").exists():
        raise click.ClickException(f"there is no store in {place}; name another --data-dir, or give --dsn")
    with embedded_store(place) as postgres:
        yield postgres.dsn


@contextlib.contextmanager
def embedded_store(place: DataDir) -> Iterator[EmbeddedPostgres]:
    """Yield the embedded server of a data directory while it runs; it is made where it is missing."""
    try:
        with place.locked(), EmbeddedPostgres(place.postgres) as postgres:
            yield postgres
    except (DataDirError, EmbeddedPostgresError) as error:
        raise click.ClickException(str(error)) from error


@contextlib.contextmanager
def reporting() -> Iterator[None]:
    """Turn errors into messages, and let SIGTERM end the work like Ctrl-C, so that nothing half-made is left."""
    previous = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    except (BackupError, CopyError, LayoutError, SchemaError) as error:
        clear_progress()
        raise click.ClickException(str(error)) from error
    except psycopg.Error as error:
        raise click.ClickException(f"PostgreSQL refuses or is not available: {error_text(error)}") from error
    finally:
        signal.signal(signal.SIGTERM, previous)


def _end(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def clear_progress() -> None:
    """Take away what was shown last of how far something has come."""
    show_progress("")


def say(what: str) -> None:
    """Tell a step on standard error."""
    clear_progress()
    click.echo(what, err=True)
