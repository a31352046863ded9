"""``obs-hub pipeline``: what applications wrote into a database, sent as events."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import click
from opentelemetry.context import Context
from opentelemetry.trace import StatusCode, set_span_in_context

from gateway import logs
from gateway.base.settings import format_duration
from gateway.cli.drawing.screen import safe, safe_text
from gateway.cli.options import config_option, data_dir_option, dsn_option, load_config, store_dsn
from gateway.cli.runs import done_here, follow, last_runs, local, output_option, show_end, show_history, telling
from gateway.component import Signal
from gateway.config import Config
from gateway.extensions.document_pipelines.config import Pipeline, PipelinesConfig, source_of
from gateway.extensions.document_pipelines.run import KIND, PipelineRun
from gateway.net.destination import names_endpoint
from gateway.net.remote import elsewhere
from gateway.operations import Operations
from gateway.runs import Outcome, Progress, Request, Run, Runs, RunState, RunsUnavailableError
from gateway.terminal import shown_json

_NO_RUNS = "No pipeline ever ran. `obs-hub pipeline run NAME` runs one now."
_NOBODY_TAKES_IT = "Does a hub run with this pipeline in its configuration? `--local` does the work here instead."


@click.group()
def pipeline() -> None:
    """Send what applications wrote into MongoDB as events.

    The running hub does so whenever there is something to read. `list` shows the pipelines, `run` asks for a run now,
    `history` shows the runs there were. docs/pipelines.md says how a pipeline is declared.
    """


@pipeline.command("list")
@output_option
@config_option
@data_dir_option
@dsn_option
def list_(output: str, config_path: Path | None, data_dir: Path | None, dsn: str | None) -> None:
    """Show the pipelines that are configured, each with its last run."""
    import msgspec

    from gateway.runs.shown import summary

    known = _pipelines(load_config(config_path))
    last, problem = asyncio.run(last_runs(KIND, known, lambda: store_dsn(dsn, config_path, data_dir)))
    for name, each in sorted(known.items()):
        schedule, place, run = each.schedule, each.place, last.get(name)
        if output == "json":
            described = {
                "name": name,
                "database": place.database,
                "collection": place.collection,
                "every": schedule.every and format_duration(schedule.every),
                "watch": schedule.watch,
                "last_run": run and summary(run),
            }
            click.echo(shown_json(msgspec.json.encode(described).decode()))
            continue
        when = f"looks every {format_duration(schedule.every)}" if schedule.every else "does not look by itself"
        click.echo(f"{name}: {place}, {when}{', watches' if schedule.watch else ''}")
        if run is not None:
            counts = ", ".join(f"{what}: {count:,}" for what, count in run.counts.items())
            at = local(run.finished_at or run.started_at or run.requested_at)
            click.echo(f"  last run {run.state.value} at {at}  {safe(run.error or counts)}")
    if problem and output == "text":
        click.echo(f"The runs cannot be shown: {problem}", err=True)


@pipeline.command()
@click.argument("name")
@click.option("--local", "here", is_flag=True, help="Do the work in this process: for a timer, where no hub does it.")
@click.option("--no-wait", is_flag=True, help="Only ask for the run, and print its id.")
@config_option
@data_dir_option
@dsn_option
def run(name: str, here: bool, no_wait: bool, config_path: Path | None, data_dir: Path | None, dsn: str | None) -> None:
    """Run a pipeline now: read all that is ingested, send it, and mark it.

    The running hub does the work, and this command shows it; Ctrl-C ends only the showing. With --local the work is
    done here. It needs no hub on this machine, only the gateway that is sent to; where there is no store to be reached
    the run is in no history.

    Exits with 0 when the run succeeded, also when single documents failed: they are marked so, with the reason. Exits
    with 1 when it failed; what it did not get to waits for the next one.
    """
    if here and no_wait:
        raise click.UsageError(
            "--local does the work here, so it has to wait for it; give one of --local and --no-wait"
        )
    config = load_config(config_path, lenient=not here)  # the hub that does the work has the secrets
    logs.configure("warning", config.service.telemetry.logs.format)  # what happens is shown as the run's output
    known = _pipelines(config)
    if name not in known:
        raise click.ClickException(f"no pipeline is called {name!r}; configured: {', '.join(sorted(known))}")
    ended: Run | Outcome | None
    try:
        if here:
            ended = asyncio.run(_run_here(config, name, known[name], _store(dsn, config_path, data_dir)))
        else:
            ended = asyncio.run(_run_by_the_hub(name, store_dsn(dsn, config_path, data_dir), wait=not no_wait))
    except RunsUnavailableError as error:
        raise click.ClickException(str(error)) from error
    if isinstance(ended, Outcome):
        click.echo(f"{name}: {ended.state.value}" + (f": {safe(ended.error)}" if ended.error else ""))
        sys.exit(0 if ended.state is RunState.SUCCEEDED else 1)
    if ended is not None and not show_end(ended):
        raise click.exceptions.Exit(1)


@pipeline.command()
@click.argument("name", required=False)
@click.option("--run", "identity", type=click.UUID, help="Show this run alone, with what it told meanwhile.")
@click.option("-n", "--limit", type=click.IntRange(1, 500), default=20, show_default=True, help="How many at most.")
@output_option
@config_option
@data_dir_option
@dsn_option
def history(
    name: str | None,
    identity: UUID | None,
    limit: int,
    output: str,
    config_path: Path | None,
    data_dir: Path | None,
    dsn: str | None,
) -> None:
    """Show the runs there were, newest first: of one pipeline, or of all."""
    store = store_dsn(dsn, config_path, data_dir)
    show_history(store, KIND, name, identity, limit=limit, output=output, none=_NO_RUNS)


async def _run_by_the_hub(name: str, dsn: str, wait: bool) -> Run | None:
    runs = Runs(dsn)
    try:
        identity = await runs.enqueue(Request(KIND, name, {"source": "cli"}), supersede=False)
        if not wait:
            click.echo(str(identity))
            return None
        return await follow(runs, identity, _NOBODY_TAKES_IT)
    finally:
        await runs.close()


async def _run_here(config: Config, name: str, settings: Pipeline, dsn: str | None) -> Run | Outcome:
    """Do a run in this process, as the hub would: with a store it is claimed and kept there."""
    extension = next(each for each in _extensions(config) if name in each.pipelines)
    from gateway.assembly import open_grpc_endpoint  # for what is done here only

    endpoint = open_grpc_endpoint(config)
    if endpoint is not None and not names_endpoint(extension, Signal.LOGS):
        extension = extension.model_copy(update={"endpoint": endpoint, "protocol": "grpc"})
    try:
        consumer = elsewhere(extension, [Signal.LOGS])
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    source = source_of(name, settings)
    async with telling(config) as operations:
        work = PipelineRun(operations)

        async def execute(progress: Progress) -> Outcome:
            return await work.do(name, settings, source, consumer, progress)

        try:
            if dsn is not None:
                try:
                    return await _with_history(name, execute, operations, dsn)
                except _NoStoreError as error:
                    click.echo(safe(str(error)), err=True)
            return await _without_history(name, execute, operations)
        finally:
            await consumer.close()
            await source.close()


class _NoStoreError(Exception):
    """The store cannot be reached, and nothing has begun."""


async def _with_history(
    name: str, execute: Callable[[Progress], Awaitable[Outcome]], operations: Operations, dsn: str
) -> Run:
    async def do(_: Run, progress: Progress) -> Outcome:
        return await execute(progress)

    runs = Runs(dsn)
    request = Request(KIND, name, {"source": "cli"})
    try:
        try:
            identity = await runs.enqueue(request, supersede=False)
        except RunsUnavailableError as error:
            raise _NoStoreError(str(error)) from error
        return await done_here(runs, identity, request, do, operations, "Another process runs this pipeline.")
    finally:
        await runs.close()


async def _without_history(
    name: str, execute: Callable[[Progress], Awaitable[Outcome]], operations: Operations
) -> Outcome:
    click.echo("There is no store to be reached from here: this run will be in no history.", err=True)
    span = operations.tracer.start_span(f"{KIND}.run", Context(), attributes={"obs_hub.run.name": name})
    progress = Progress(set_span_in_context(span))
    try:
        outcome = await execute(progress)
        failed = outcome.state is not RunState.SUCCEEDED
        span.set_status(StatusCode.ERROR if failed else StatusCode.OK, outcome.error if failed else None)
        return outcome
    finally:
        span.end()
        click.echo(safe_text(progress.output.text), err=True, nl=False)


def _store(dsn: str | None, config_path: Path | None, data_dir: Path | None) -> str | None:
    """Return the store that runs are kept in, where there is one."""
    try:
        return store_dsn(dsn, config_path, data_dir)
    except click.ClickException:
        return None


def _extensions(config: Config) -> list[PipelinesConfig]:
    return [each for each in config.extensions.values() if isinstance(each, PipelinesConfig)]


def _pipelines(config: Config) -> dict[str, Pipeline]:
    known = {name: each for extension in _extensions(config) for name, each in extension.pipelines.items()}
    if not known:
        raise click.ClickException(
            "no pipeline is configured: add an extension pipelines to the configuration file, and name that file with "
            "--config or OBSHUB_CONFIG; docs/pipelines.md shows one"
        )
    return known
