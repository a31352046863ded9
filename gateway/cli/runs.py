"""What commands about durable runs share: following one to its end, and showing some or one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

import click
import msgspec

from gateway.cli.drawing.screen import safe, safe_text
from gateway.component import Signal
from gateway.config import Config
from gateway.net.destination import Destination
from gateway.operations import Operations
from gateway.runs import Execute, Request, Run, Runs, RunState, RunsUnavailableError, Worker
from gateway.runs.shown import details, summary
from gateway.terminal import shown_json

_LOOK_AGAIN = 0.2
_FLUSH_SECONDS = 5.0
_HINT_AFTER = 10.0
"""Seconds that a run waits before it is said why it may."""
_AWAY_SECONDS = 60.0
"""How long the store may be away meanwhile: a hub that restarts takes its own with it, and then resumes the run."""


output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people, or JSON.",
)


async def follow(runs: Runs, identity: UUID, hint: str) -> Run:
    """Show on standard error what a run writes, until it has ended; return it.

    ``hint`` is said when no hub takes the run. A run whose work a later one does is followed there. Raises
    `RunsUnavailableError` when the store stays away.
    """
    shown, hint_at, away_since = "", time.monotonic() + _HINT_AFTER, None
    while True:
        try:
            run = await runs.get(identity)
        except RunsUnavailableError as error:
            if away_since is None:
                away_since = time.monotonic()
                click.echo(f"{error}; waiting for it", err=True)
            if time.monotonic() - away_since >= _AWAY_SECONDS:
                raise
            await asyncio.sleep(_LOOK_AGAIN)
            continue
        away_since = None
        if run is None:
            raise click.ClickException(f"the run {identity} was removed")
        if run.superseded_by is not None:
            identity, shown = run.superseded_by, ""
            continue
        if run.state is RunState.QUEUED and time.monotonic() >= hint_at:
            click.echo(f"the run {identity} still waits. {hint}", err=True)
            hint_at = float("inf")
        # A long output loses its middle, and then its end is all that can be shown of what is new.
        fresh = run.output[len(shown) :] if run.output.startswith(shown) else run.output[-2000:]
        click.echo(safe_text(fresh), err=True, nl=False)
        shown = run.output
        if run.finished:
            return run
        await asyncio.sleep(_LOOK_AGAIN)


@asynccontextmanager
async def telling(config: Config) -> AsyncIterator[Operations]:
    """What is done in this process is told about like a hub's work, and sent before the block ends."""
    # Half of what such a command would import, and those that only show runs do nothing here.
    from gateway.assembly import open_grpc_endpoint
    from gateway.telemetry import SelfTelemetry

    def front_door(signal: Signal) -> Destination | None:
        endpoint = open_grpc_endpoint(config) if signal in config.service.signals else None
        return None if endpoint is None else Destination("grpc", endpoint)

    telemetry = SelfTelemetry(config.service.telemetry, front_door)
    try:
        yield telemetry.operations
    finally:
        await asyncio.to_thread(telemetry.flush_and_stop, _FLUSH_SECONDS)


async def done_here(
    runs: Runs, identity: UUID, request: Request, execute: Execute, operations: Operations, hint: str
) -> Run:
    """Do a run here that was asked for, as the hub would, and show what it writes. ``hint``: see `follow`."""
    worker = Worker(runs, request.kind, [request.name], execute, operations, kept=None)
    await worker.start()
    try:
        return await follow(runs, identity, hint)
    finally:
        await worker.stop(0)


async def last_runs(kind: str, names: Iterable[str], find_dsn: Callable[[], str]) -> tuple[dict[str, Run], str | None]:
    """Return the last run of each name; or say why that cannot be had."""
    last: dict[str, Run] = {}
    try:
        runs = Runs(find_dsn())
        try:
            for name in names:
                for run in await runs.history(kind, name, limit=1):
                    last[name] = run
        finally:
            await runs.close()
    except (RunsUnavailableError, click.ClickException) as error:
        return last, error.message if isinstance(error, click.ClickException) else str(error)
    return last, None


def show_history(
    dsn: str, kind: str, name: str | None, identity: UUID | None, *, limit: int, output: str, none: str
) -> None:
    """Print the runs of a kind, or one of them whole. Ends the command when there is no such run, or no store."""

    async def read() -> list[tuple[Run, int]]:
        runs = Runs(dsn)
        try:
            if identity is None and output == "text":
                return await runs.folded_history(kind, name, limit=limit)
            if identity is None:
                return [(run, 0) for run in await runs.history(kind, name, limit=limit)]
            run = await runs.get(identity)
            if run is None or run.kind != kind:
                raise click.ClickException(f"there is no {kind} run {identity}; it may have been removed since")
            return [(run, 0)]
        finally:
            await runs.close()

    try:
        found = asyncio.run(read())
    except RunsUnavailableError as error:
        raise click.ClickException(str(error)) from error
    if identity is None:
        show_runs(found, output, none)
    else:
        show_run(found[0][0], output)


def show_end(run: Run) -> bool:
    """Say how a run ended; return whether it succeeded."""
    took = _seconds(run)
    click.echo(
        f"{run.name}: {run.state.value}{took and f' after {took}'}" + (f": {safe(run.error)}" if run.error else "")
    )
    return run.state is RunState.SUCCEEDED


def show_runs(runs: Sequence[tuple[Run, int]], output: str, none: str) -> None:
    """Print runs, newest first, each with how many others it did the work of: a line each, with the error below.

    For programs, one JSON object a line; that there are none is said beside it.
    """
    if output == "json":
        for run, _ in runs:
            click.echo(shown_json(msgspec.json.encode(summary(run)).decode()))
        if not runs:
            click.echo(none, err=True)
        return
    for run, folded in runs:
        done = {**run.counts, **({"requests_before_it": folded} if folded else {})}
        counts = ", ".join(f"{what.replace('_', ' ')}: {count:,}" for what, count in done.items())
        at = local(run.started_at or run.requested_at)
        source = run.trigger.get("source", "")
        click.echo(f"{at}  {run.name:<16} {run.state.value:<11} {_seconds(run):>8}  {source:<9} {run.id}  {counts}")
        if run.error:
            click.echo(f"  {safe(run.error)}")
    if not runs:
        click.echo(none)


def show_run(run: Run, output: str) -> None:
    """Print all there is about one run."""
    if output == "json":
        click.echo(shown_json(msgspec.json.encode(details(run)).decode()))
        return
    for what, value in msgspec.to_builtins(summary(run)).items():
        if value not in (None, {}):
            click.echo(f"{what:<14} {json.dumps(value) if isinstance(value, dict) else safe(str(value))}")
    if run.output:
        click.echo(f"\n{safe_text(run.output)}", nl=False)


def local(at: datetime) -> str:
    """Return a time as people here read it."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _seconds(run: Run) -> str:
    if run.started_at is None or run.finished_at is None:
        return ""
    return f"{(run.finished_at - run.started_at).total_seconds():.1f} s"
