"""``obs-hub spool``: batches on disk that a destination has not taken yet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from gateway import logs
from gateway.assembly import exporter_settings, make_delivery, needs_embedded
from gateway.base.settings import ExporterSettings
from gateway.cli.options import config_option, data_dir_option, load_config, running_hub
from gateway.component import Batch
from gateway.config import Config
from gateway.data_paths import spools
from gateway.datadir import AlreadyRunningError, DataDir, DataDirError
from gateway.embedded import EmbeddedPostgres, EmbeddedPostgresError
from gateway.files.ownership import holder
from gateway.pipeline.instruments import Instruments
from gateway.pipeline.spool import Damage, Record, find, removals, scan, segments, status
from gateway.store import LayoutError, SchemaError
from gateway.suggestions import suggestion

_LOSSES_SHOWN = 20


@click.group()
def spool() -> None:
    """Look after the batches that wait on disk for a destination.

    A running hub replays them by itself as soon as the destination answers. The spool of each exporter is in the data
    directory under spool/.
    """


@spool.command("status")
@data_dir_option
def show_status(data_dir: Path | None) -> None:
    """Show how much waits in each spool, and what was lost. Works while a hub runs, too.

    What was lost is shown until its files in the directory, losses and damaged/, are removed.
    """
    found = False
    where = DataDir.resolve(data_dir).path
    for name, directory in spools(where):
        its = status(directory)
        found = True
        owner = holder(directory)
        held = f", held by {owner}" if owner else ""
        click.echo(f"{name}/{directory.name}: {its.size:,} bytes in {its.segments} segments{held}")
        if its.dropped.batches:
            click.echo(
                f"  {its.dropped.records:,} records in {its.dropped.batches:,} batches were dropped,"
                f" because it was full, the last at {its.dropped.last}"
            )
        if its.taken:
            click.echo(
                f"  {its.taken} segments were delivered and are still in {directory}; if they stay, the log says why"
            )
        lost = [f"{loss.place}: {loss.what} (found {loss.at})" for loss in its.losses]
        if not owner:  # or else its owner has found it
            known = {loss.place for loss in its.losses}
            with contextlib.suppress(OSError):
                lost += [f"{place}: {what}" for place, what in find(directory).losses if place not in known]
        for line in lost[-_LOSSES_SHOWN:]:
            click.echo(f"  lost: {line}")
        if len(lost) > _LOSSES_SHOWN:
            click.echo(f"  and {len(lost) - _LOSSES_SHOWN} before these")
        damaged = sum(1 for _ in (directory / "damaged").glob("*"))
        if damaged:
            click.echo(f"  {damaged} damaged pieces set aside in {directory / 'damaged'}")
    if not found:
        click.echo(f"Nothing was ever spooled. The data directory is {where}.")


@spool.command("list")
@data_dir_option
def list_batches(data_dir: Path | None) -> None:
    """List the batches in each spool, oldest first. Some may have been delivered already."""
    found = False
    where = DataDir.resolve(data_dir).path
    for name, directory in spools(where):
        to_drop = removals.wanted(directory)
        for path in segments(directory):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue  # delivered meanwhile
            for item in scan(content):
                found = True
                if isinstance(item, Record):
                    batch = item.batch
                    at = datetime.fromtimestamp(batch.received_at / 1e9, UTC).isoformat(timespec="milliseconds")
                    note = "  to be dropped" if removals.name(batch) in to_drop else ""
                    click.echo(
                        f"{at}  {name:<12} {batch.signal:<8} {len(batch.payload):>10,} B  {batch.digest.hex()}{note}"
                    )
                elif isinstance(item, Damage):
                    kind = "cut off by a crash" if item.torn else "damaged"
                    click.echo(f"{'':<30}{name:<12} {item.end - item.start:,} bytes {kind} in {path.name}")
    if not found:
        click.echo(f"Nothing waits in any spool. The data directory is {where}.", err=True)


@spool.command()
@click.argument("digests", nargs=-1)
@click.option("--exporter", metavar="NAME", help="Drop all that waits for this exporter.")
@click.option("--all", "everything", is_flag=True, help="Drop all that waits for any exporter.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_dir_option
def drop(digests: tuple[str, ...], exporter: str | None, everything: bool, yes: bool, data_dir: Path | None) -> None:
    """Drop batches that a destination will never take. Their records are lost then, though their senders got an OK.

    DIGESTS are those that `obs-hub spool list` shows, and may be cut short. Works while a hub runs, which passes the
    batches over at its next attempt; else the next one does, or `obs-hub spool drain`.
    """
    if sum(map(bool, (digests, exporter, everything))) != 1:
        raise click.UsageError("give digests, or --exporter NAME, or --all")
    where = DataDir.resolve(data_dir).path
    exporters = sorted({name for name, _ in spools(where)})
    found = {
        directory: [
            batch
            for batch in _batches(directory)
            if not digests or any(batch.digest.hex().startswith(each.lower()) for each in digests)
        ]
        for name, directory in spools(where)
        if exporter in (None, name)
    }
    chosen = [batch for batches in found.values() for batch in batches]
    for digest in digests:
        matches = {batch.digest for batch in chosen if batch.digest.hex().startswith(digest.lower())}
        if len(matches) != 1:
            what = "no batch waits whose digest" if not matches else "several batches wait whose digests"
            raise click.ClickException(f"{what} begins with {digest}; see `obs-hub spool list`")
    if not chosen:
        unknown = exporter is not None and exporter not in exporters
        hint = f" No exporter {exporter} has a spool{suggestion(exporter or '', exporters)}" if unknown else ""
        click.echo(f"Nothing waits there.{hint} The data directory is {where}.")
        return
    size = sum(len(batch.payload) for batch in chosen)
    if not yes:
        click.confirm(f"Drop {len(chosen)} batches of {size:,} bytes? Their records are lost then", abort=True)
    for directory, batches in found.items():
        if batches:
            removals.ask(directory, batches)
    click.echo(f"{len(chosen)} batches of {size:,} bytes are dropped when their spool is next replayed.")


def _batches(directory: Path) -> Iterator[Batch]:
    """Yield the batches of a spool."""
    for path in segments(directory):
        with contextlib.suppress(FileNotFoundError):  # delivered meanwhile
            yield from (item.batch for item in scan(path.read_bytes()) if isinstance(item, Record))


@spool.command()
@config_option
@data_dir_option
def drain(config_path: Path | None, data_dir: Path | None) -> None:
    """Deliver what the spools hold, without a hub: before an upgrade, or to retire a machine.

    Ctrl-C stops it; what was delivered until then is gone from the spool, the rest stays.
    """
    if running_hub(data_dir) is not None:
        raise click.ClickException("a hub runs on this data directory and drains its spools by itself")
    config, directory = load_config(config_path), DataDir.resolve(data_dir)
    logs.configure(config.service.telemetry.logs.level, config.service.telemetry.logs.format)
    try:
        with directory.locked():
            postgres = EmbeddedPostgres(directory.postgres) if needs_embedded(config) else None
            try:
                dsn = postgres.start() if postgres else None
                asyncio.run(_drain(config, directory.path, dsn))
            finally:
                if postgres:
                    postgres.stop()
    except (AlreadyRunningError, DataDirError, EmbeddedPostgresError, SchemaError, LayoutError) as error:
        raise click.ClickException(str(error)) from error


async def _drain(config: Config, data_dir: Path, dsn: str | None) -> None:
    from opentelemetry.metrics import NoOpMeter
    from opentelemetry.trace import NoOpTracer

    for name, directory in list(spools(data_dir)):
        if not status(directory).size:
            continue
        if name not in config.exporters:
            raise click.ClickException(f"no exporter {name} is configured, but {directory} holds batches for it")
        settings = exporter_settings(config, name)
        assert isinstance(settings, ExporterSettings)
        if not settings.spool.enabled:  # any more, that is
            settings = settings.model_copy(update={"spool": settings.spool.model_copy(update={"enabled": True})})
        delivery = make_delivery(
            name, settings, dsn, data_dir, int(directory.name), Instruments(NoOpMeter("")), NoOpTracer()
        )
        assert delivery.spool is not None
        await delivery.start()
        try:
            if not delivery.spool.is_open:
                who = holder(directory) or "another process"
                raise click.ClickException(
                    f"{directory} cannot be drained: {who} still uses it; try again once it ended"
                )
            while not delivery.spool.empty:
                click.echo(f"{name}/{directory.name}: {delivery.spool.size:,} bytes left")
                await asyncio.sleep(1)
        finally:
            await delivery.stop()
        click.echo(f"{name}/{directory.name}: empty")
