"""``obs-hub dead-letter``: batches that a destination refused for good."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import click
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway import components
from gateway.assembly import exporter_settings
from gateway.base.settings import ExporterSettings
from gateway.cli.options import config_option, data_dir_option, load_config, store_dsn
from gateway.component import Batch, DeliveryError, Exporter, MalformedPayloadError, PartlyRefusedError, Signal
from gateway.component.declaration import Context
from gateway.data_paths import dead_letter_directory
from gateway.datadir import DataDir
from gateway.files.ownership import DirectoryInUseError, DirectoryLock
from gateway.otlp.mending import mend_batch
from gateway.pipeline.attempts import attempt_alone
from gateway.pipeline.dead_letters import DeadLetter, DeadLetters
from gateway.store import StoreSettings
from gateway.terminal import safe

_REQUESTS: dict[Signal, Any] = {
    Signal.METRICS: ExportMetricsServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
    Signal.TRACES: ExportTraceServiceRequest,
}


@click.group("dead-letter")
def dead_letter() -> None:
    """Look after the batches that a destination refused for good.

    They are kept in the data directory under dead-letter/, each with the reason beside it. Mend the cause, then replay
    them; or drop them.
    """


@dead_letter.command("list")
@data_dir_option
def list_letters(data_dir: Path | None) -> None:
    """List the dead letters, oldest first, and how much of the disk they take."""
    found = False
    totals = []
    for exporter, letters in _all(data_dir):
        usage = letters.usage()
        if usage.count:
            totals.append(f"{exporter}: {usage.count:,} dead letters, {usage.size:,} bytes on disk")
        for letter in letters:
            found = True
            at = letter.received_at.isoformat(timespec="seconds")
            click.echo(f"{letter.name}  {exporter}  {letter.signal}  {letter.size:,} B  received {at}")
            click.echo(f"  {safe(letter.reason)}")
    click.echo("\n".join(totals) if found else _none(data_dir))


@dead_letter.command()
@click.argument("name")
@data_dir_option
def show(name: str, data_dir: Path | None) -> None:
    """Print the content of a dead letter as JSON. NAME may be cut short."""
    exporter, letters, letter = _find(data_dir, name)
    click.echo(f"{letter.name} for {exporter}, refused {letter.refused_at:%Y-%m-%d %H:%M:%S %Z}:", err=True)
    click.echo(f"  {safe(letter.reason)}", err=True)
    request = _REQUESTS[letter.signal]()
    try:
        request.ParseFromString(letters.batch(letter).payload)
    except DecodeError as error:
        raise click.ClickException(f"its payload is not a valid request: {error}") from error
    click.echo(MessageToJson(request))


@dead_letter.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Replay all dead letters.")
@config_option
@data_dir_option
def replay(names: tuple[str, ...], everything: bool, config_path: Path | None, data_dir: Path | None) -> None:
    """Deliver dead letters again, to the exporter that each was for; those delivered are dropped.

    What is refused again stays, the whole letter or those records of it, and the command exits with 1.
    """
    config = load_config(config_path)
    refused = 0
    with _alone(data_dir):
        for exporter, letters, letter in _chosen(data_dir, names, everything):
            if exporter not in config.exporters:
                raise click.ClickException(f"no exporter {exporter} is configured; name the file with --config")
            try:
                settings = exporter_settings(config, exporter)
                is_store = isinstance(settings, StoreSettings)
                context = Context(embedded_dsn=store_dsn(None, config_path, data_dir) if is_store else None)
                assert isinstance(settings, ExporterSettings)
                batch = letters.batch(letter)
                made = components.exporter(exporter).create(exporter, settings, context)
                asyncio.run(_deliver(made, batch, settings))
            except PartlyRefusedError as error:
                refused += 1
                rest = letters.keep(batch.part(error.payload), str(error))
                letters.drop(letter)
                click.echo(f"{letter.name}: {error}; the others are delivered, these are now {rest.name}", err=True)
            except DeliveryError as error:
                refused += 1
                click.echo(safe(f"{letter.name}: {error}"), err=True)
            else:
                letters.drop(letter)
                click.echo(f"{letter.name}: delivered")
    if refused:
        raise click.exceptions.Exit(1)


async def _deliver(exporter: Exporter, batch: Batch, settings: ExporterSettings) -> None:
    await exporter.start()
    try:
        try:
            await attempt_alone(exporter, batch, settings)
        except MalformedPayloadError:
            mended, outcome = await mend_batch(batch)
            click.echo(safe(outcome.message), err=True)
            await attempt_alone(exporter, mended, settings)
    finally:
        await exporter.stop()


@dead_letter.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Drop all dead letters.")
@data_dir_option
def drop(names: tuple[str, ...], everything: bool, data_dir: Path | None) -> None:
    """Remove dead letters. Their records are lost then."""
    with _alone(data_dir):
        for _, letters, letter in _chosen(data_dir, names, everything):
            letters.drop(letter)
            click.echo(f"{letter.name}: dropped")


@contextlib.contextmanager
def _alone(data_dir: Path | None) -> Iterator[None]:
    """Be the only command that replays or drops, for the length of a block. Gateways keep letters meanwhile."""
    directory = dead_letter_directory(DataDir.resolve(data_dir).path, "")
    if not directory.is_dir():
        yield  # there are no letters
        return
    lock = DirectoryLock(directory)
    try:
        lock.acquire()
    except DirectoryInUseError as error:
        raise click.ClickException(
            f"another `obs-hub dead-letter` is at work ({error.strerror}); try again once it ended"
        ) from error
    except OSError as error:
        raise click.ClickException(f"{directory} cannot be used: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def _all(data_dir: Path | None) -> Iterator[tuple[str, DeadLetters]]:
    folder = dead_letter_directory(DataDir.resolve(data_dir).path, "")
    for directory in sorted(path for path in folder.glob("*") if path.is_dir()):
        yield unquote(directory.name), DeadLetters(directory)


def _find(data_dir: Path | None, name: str) -> tuple[str, DeadLetters, DeadLetter]:
    for exporter, letters in _all(data_dir):
        letter = letters.find(name)
        if letter is not None:
            return exporter, letters, letter
    if not any(True for _, letters in _all(data_dir) for _ in letters):
        raise click.ClickException(_none(data_dir))
    raise click.ClickException(
        f"there is no dead letter {name}, or more than one begins so; see `obs-hub dead-letter list`"
    )


def _chosen(
    data_dir: Path | None, names: tuple[str, ...], everything: bool
) -> list[tuple[str, DeadLetters, DeadLetter]]:
    every = [(exporter, letters, letter) for exporter, letters in _all(data_dir) for letter in letters]
    if not every and not names:
        click.echo(_none(data_dir))
        return []
    if bool(names) == everything:
        raise click.UsageError("name dead letters, or say --all; `obs-hub dead-letter list` shows them")
    return every if everything else [_find(data_dir, name) for name in names]


def _none(data_dir: Path | None) -> str:
    return f"There are no dead letters. The data directory is {DataDir.resolve(data_dir).path}."
