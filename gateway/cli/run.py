"""``obs-hub up`` and ``obs-hub serve``: run a hub until it is told to stop."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gateway import logs
from gateway.addresses import AddressesTakenError, reached_by
from gateway.assembly import embedded_port
from gateway.cli.options import config_option, data_dir_option
from gateway.cli.waiting_for_secrets import load_when_possible
from gateway.config import NO_FRONT, Config, Overrides
from gateway.datadir import DataDir, DataDirError
from gateway.embedded import EmbeddedPostgresError
from gateway.net.listeners import is_loopback, join_endpoint, split_endpoint
from gateway.store import LayoutError, SchemaError, dsn_without_secrets

if TYPE_CHECKING:
    from gateway.embedded import Step
    from gateway.supervisor import Announce

_F = TypeVar("_F", bound=Callable[..., Any])

_FIRST_QUERY = (
    "SELECT DISTINCT ON (name, attributes) name, attributes, value, unit FROM metrics "
    "WHERE name ~ '^system.(uptime|cpu.load|memory.util)' ORDER BY name, attributes, time DESC"
)


def _address(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Return ``host:port``; a port alone is one of loopback."""
    if value is None:
        return None
    address = join_endpoint("127.0.0.1", int(value)) if value.isascii() and value.isdigit() else value
    try:
        split_endpoint(address)
    except ValueError as error:
        raise click.BadParameter(f"{error}, or a port of loopback such as 14317") from None
    return address


def _override_options(function: _F) -> _F:
    """Add the options that say something else than the configuration does."""
    for option in (
        click.option(
            "--postgres-port",
            type=click.IntRange(1, 65535),
            help="Port of loopback on which the embedded PostgreSQL lets readers in by password, for Grafana.",
        ),
        click.option("--front", metavar="ADDRESS", callback=_address, help="Where the page and the API listen."),
        click.option("--otlp-http", metavar="ADDRESS", callback=_address, help="Where OTLP/HTTP is taken."),
        click.option(
            "--otlp-grpc",
            metavar="ADDRESS",
            callback=_address,
            help="Where OTLP/gRPC is taken, instead of where the configuration says: host:port, or a port of loopback.",
        ),
    ):
        function = option(function)
    return function


@click.command()
@config_option
@data_dir_option
@_override_options
def up(config_path: Path | None, data_dir: Path | None, **overrides: Any) -> None:
    """Run the whole hub: embedded PostgreSQL, gateway and this machine's metrics.

    It listens on loopback for OTLP, gRPC on 4317 and HTTP on 4318, shows its page on 8085, and keeps everything in the
    data directory. Ctrl-C stops it; nothing that was acknowledged is lost.

    \b
    obs-hub up
    obs-hub up --otlp-grpc 14317 --otlp-http 14318  beside Alloy or a Collector, which have the usual ports
    obs-hub config init hub.yaml                    writes a configuration file to begin with
    obs-hub up -c hub.yaml                          runs the hub with it
    """
    with _interruptible():
        config = load_when_possible(config_path, Overrides(**overrides))

        def welcome(endpoints: dict[str, str], dsn: str | None) -> None:
            click.echo("\nThe hub is up.\n")
            for line in _where(config, endpoints, dsn):
                click.echo(f"  {line}")
            click.echo("\nThe first metrics of this machine arrive within seconds. In another terminal:\n")
            click.echo(f'  {_first_command(data_dir)} "{_FIRST_QUERY}"\n')
            click.echo("Ctrl-C stops the hub.")

        _run(config, data_dir, 1, welcome, _timed)


@click.command()
@config_option
@data_dir_option
@_override_options
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that share the ports. More than one pays off when one core is not enough.",
)
def serve(config_path: Path | None, data_dir: Path | None, workers: int, **overrides: Any) -> None:
    """Run the gateway as a service, as its configuration file says.

    Logs go to standard error, one JSON object a line unless that is a terminal. SIGTERM stops it cleanly.
    """

    def announce(endpoints: dict[str, str], _: str | None) -> None:
        if not config.has_front:
            click.echo(f"note: {NO_FRONT}", err=True)
        click.echo("ready: " + ", ".join(f"{name} on {address}" for name, address in endpoints.items()), err=True)

    with _interruptible():
        config = load_when_possible(config_path, Overrides(**overrides))
        _run(config, data_dir, workers, announce)


def _where(config: Config, endpoints: dict[str, str], dsn: str | None) -> Iterator[str]:
    """Yield what a hub has, each with an address that works where it is opened, and what a reader of the page needs."""
    for name, address in endpoints.items():
        front = config.extensions.get(name)
        what = "page" if front is not None else f"OTLP/{name.split()[-1]}"
        scheme = "https" if front is not None and getattr(front, "tls", None) is not None else "http"
        for label, reached in zip((what, ""), reached_by(address), strict=False):
            yield f"{label:<12}{scheme}://{reached}{'/' if front is not None else ''}"
        if front is not None and not getattr(front, "reads_are_open", True) and not is_loopback(address):
            yield f"{'':<12}It shows nothing of what runs, because others than this machine can open it. To let all"
            yield f"{'':<12}of them see it, set anonymous_read: true and insecure: true at extensions.{name} in a"
            yield f"{'':<12}configuration file (`obs-hub config init` writes one to begin with)."
    if not config.has_front:
        yield f"{'page':<12}none: {NO_FRONT}"
    yield f"{'store':<12}{dsn_without_secrets(dsn) if dsn else 'none'}"
    if (port := embedded_port(config)) is not None:
        yield f"{'':<12}and 127.0.0.1:{port} for those that `obs-hub db reader NAME` makes, such as Grafana"


def _first_command(data_dir: Path | None) -> str:
    """Return ``obs-hub query``, written so that it finds this hub from another terminal."""
    elsewhere = data_dir is not None or "OBSHUB_DATA_DIR" in os.environ
    return shlex.join([*_program(), "query", *(["--data-dir", str(DataDir.resolve(data_dir))] if elsewhere else [])])


def _program() -> list[str]:
    """Return how this program was called, without its arguments."""
    program = Path(sys.argv[0])
    return [sys.executable, "-m", program.parent.name] if program.name == "__main__.py" else [sys.argv[0]]


@contextlib.contextmanager
def _timed(what: str) -> Iterator[None]:
    """Show what a start is busy with, and how long it took."""
    began = time.monotonic()
    click.echo(f"{what[0].upper()}{what[1:]} ...")
    yield
    click.echo(f"  {time.monotonic() - began:.1f} s")


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the command with a word rather than with a traceback, before it has set up its own way to stop."""
    try:
        yield
    except KeyboardInterrupt:
        _say_interrupted()
        raise click.exceptions.Exit(130) from None


def _say_interrupted() -> None:
    click.echo("\nInterrupted before the hub was up. Nothing of it runs.", err=True)


def _run(
    config: Config,
    data_dir: Path | None,
    workers: int,
    announce: Announce,
    step: Step = contextlib.nullcontext,
) -> None:
    from gateway import supervisor

    logs.configure(config.service.telemetry.logs.level, config.service.telemetry.logs.format)
    try:
        was_up = supervisor.run(config, DataDir.resolve(data_dir), workers, announce, step)
    except AddressesTakenError as error:
        beside = ""
        if error.instead:
            command = shlex.join([*_program(), *sys.argv[1:], *error.instead])
            beside = f"\nNothing was started. To run the hub beside what has the address:\n\n  {command}"
        raise click.ClickException(f"{error.strerror}{beside}") from error
    except (DataDirError, EmbeddedPostgresError, SchemaError, LayoutError, supervisor.WorkerError, OSError) as error:
        message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise click.ClickException(message) from error
    if not was_up:
        _say_interrupted()
