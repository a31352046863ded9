"""``obs-hub gitops``: how clones stand to their remotes, and the runs that bring them there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from gateway import logs
from gateway.cli.drawing.screen import safe
from gateway.cli.options import config_option, data_dir_option, dsn_option, load_config, store_dsn
from gateway.cli.runs import done_here, follow, last_runs, local, output_option, show_end, show_history, telling
from gateway.config import Config
from gateway.extensions.gitops.config import GitOpsConfig, Repository
from gateway.extensions.gitops.drift import Check, CheckNote, check, last_check, with_note
from gateway.extensions.gitops.git import Git
from gateway.extensions.gitops.reconcile import BusyError, Reconciler
from gateway.extensions.gitops.service import KIND, order_of
from gateway.operations import Operations
from gateway.runs import Outcome, Progress, Request, Run, Runs, RunsUnavailableError

_NO_RUNS = "No repository was ever reconciled. `obs-hub gitops sync` does it now."
_NOBODY_TAKES_IT = "Does a hub run with this repository in its configuration? `--local` does the work here instead."


@click.group()
def gitops() -> None:
    """Look after the clones that follow their remotes.

    The running hub reconciles them when GitHub's webhook tells of a push, and from time to time besides. `status` shows
    how each clone stands, `sync` asks for a run now, `history` shows the runs there were. Run them as the user that the
    hub runs as, to whom the clones belong.
    """


@gitops.command()
@click.argument("repositories", nargs=-1)
@click.option(
    "--fetch/--no-fetch",
    default=None,
    help="Ask the remotes first, or never. Default: where the hub's last look is not known, or is long ago.",
)
@output_option
@config_option
@data_dir_option
@dsn_option
def status(
    repositories: tuple[str, ...],
    fetch: bool | None,
    output: str,
    config_path: Path | None,
    data_dir: Path | None,
    dsn: str | None,
) -> None:
    """Show how each clone stands to its remote, and how its last run ended. Exits with 1 when one has drifted.

    Drift is whatever keeps a clone from being what its remote says: behind, dirty, wrong_branch, detached,
    local_commits, failed_revision (the remote's revision was tried and failed), unusable (the clone cannot be looked
    at, or the remote not be asked).
    """
    config = load_config(config_path)
    chosen = _chosen(config, repositories)
    checks, last, problem = asyncio.run(_look(chosen, fetch, lambda: store_dsn(dsn, config_path, data_dir)))
    for name, (found, note) in checks.items():
        if output == "json":
            click.echo(json.dumps(_as_json(name, chosen[name], found, note, last.get(name))))
        else:
            _show(name, chosen[name], found, note, last.get(name))
    if problem and output == "text":
        click.echo(f"The runs cannot be shown: {problem}", err=True)
    if any(found is not None and found.drift for found, _ in checks.values()):
        raise click.exceptions.Exit(1)


async def _look(
    chosen: Mapping[str, Repository], fetch: bool | None, find_dsn: Callable[[], str]
) -> tuple[dict[str, tuple[Check | None, CheckNote | None]], dict[str, Run], str | None]:
    """Look at the clones, and for the last run of each; or say why that cannot be had.

    A check that did not ask the remote comes with the hub's last look, where that is known.
    """
    checks: dict[str, tuple[Check | None, CheckNote | None]] = {}
    for name, repository in chosen.items():
        git = Git(repository)
        note = None if fetch else await last_check(git)
        ask = fetch or (fetch is None and (note is None or not note.is_recent(repository)))
        try:
            found = await check(git, fetch=ask)
        except BusyError:
            checks[name] = None, note
        else:
            checks[name] = (found, None) if ask or note is None else (with_note(found, note), note)
    last, problem = await last_runs(KIND, chosen, find_dsn)
    return checks, last, problem


def _show(name: str, repository: Repository, found: Check | None, note: CheckNote | None, run: Run | None) -> None:
    if found is None:
        click.echo(f"{name}: a run works on it at this moment")
        return
    click.echo(f"{name}: {', '.join(sorted(found.drift)) or 'in sync'}")
    click.echo(f"  clone      {repository.path}, branch {repository.branch} of {repository.remote}")
    if (state := found.state) is not None:
        for what, revision in (("here", state.head), ("remote", state.upstream), ("last good", state.good)):
            click.echo(f"  {what:<10} {revision or '-'}")
        if state.ahead or state.behind:
            click.echo(f"  {state.ahead} commits ahead, {state.behind} behind")
        for path in state.dirty:
            click.echo(f"  changed    {safe(path)}")
    if note is not None:
        click.echo(f"  looked     {local(datetime.fromtimestamp(note.at, UTC))}, by the hub")
    if found.problem:
        click.echo(f"  problem    {safe(found.problem)}")
    if run is not None:
        error = f": {safe(run.error)}" if run.error else ""
        click.echo(f"  last run   {run.state.value} at {local(run.finished_at or run.requested_at)}{error}")


def _as_json(
    name: str, repository: Repository, found: Check | None, note: CheckNote | None, run: Run | None
) -> dict[str, Any]:
    state = None if found is None else found.state
    return {
        "repository": name,
        "path": str(repository.path),
        "branch": repository.branch,
        "busy": found is None,
        "drift": [] if found is None else sorted(found.drift),
        "problem": None if found is None else found.problem,
        "looked_at": note and datetime.fromtimestamp(note.at, UTC).isoformat(timespec="seconds"),
        "revision": state and state.head,
        "remote_revision": state and state.upstream,
        "good_revision": state and state.good,
        "ahead": state and state.ahead,
        "behind": state and state.behind,
        "dirty": state and list(state.dirty),
        "last_run": run and {"id": str(run.id), "state": run.state.value, "error": run.error},
    }


@gitops.command()
@click.argument("repositories", nargs=-1)
@click.option("--force", is_flag=True, help="Though it is rolled out already, or failed before.")
@click.option("--local", "here", is_flag=True, help="Do the work in this process: where no hub runs to do it.")
@click.option("--no-wait", is_flag=True, help="Only ask for the runs, and print their ids.")
@config_option
@data_dir_option
@dsn_option
def sync(
    repositories: tuple[str, ...],
    force: bool,
    here: bool,
    no_wait: bool,
    config_path: Path | None,
    data_dir: Path | None,
    dsn: str | None,
) -> None:
    """Bring clones to what their remotes say now, and roll that out. Default: all of them, one after the other.

    The running hub does the work, and this command shows it; Ctrl-C ends only the showing. With --local the work is
    done here and ends with Ctrl-C; the next run goes on where it stood. Exits with 1 when a run failed.
    """
    if here and no_wait:
        raise click.UsageError(
            "--local does the work here, so it has to wait for it; give one of --local and --no-wait"
        )
    config = load_config(config_path, lenient=not here)  # the hub that does the work has the secrets
    logs.configure("warning", config.service.telemetry.logs.format)  # what happens is shown as the runs' output
    chosen, store = _chosen(config, repositories), store_dsn(dsn, config_path, data_dir)
    trigger = {"source": "cli", "force": force}
    try:
        if here:
            ended = asyncio.run(_sync_here(config, chosen, store, trigger))
        else:
            ended = asyncio.run(_sync_by_the_hub(chosen, store, trigger, wait=not no_wait))
    except RunsUnavailableError as error:
        raise click.ClickException(str(error)) from error
    succeeded = [show_end(run) for run in ended]
    if not all(succeeded):
        raise click.exceptions.Exit(1)


async def _sync_by_the_hub(
    chosen: Mapping[str, Repository], dsn: str, trigger: dict[str, Any], wait: bool
) -> list[Run]:
    runs = Runs(dsn)
    try:
        asked = {name: await runs.enqueue(Request(KIND, name, trigger)) for name in chosen}
        if not wait:
            for name, identity in asked.items():
                click.echo(f"{name}: {identity}")
            return []
        return [await follow(runs, identity, _NOBODY_TAKES_IT) for identity in asked.values()]
    finally:
        await runs.close()


async def _sync_here(config: Config, chosen: Mapping[str, Repository], dsn: str, trigger: dict[str, Any]) -> list[Run]:
    """Do the runs in this process, as the hub would: they are claimed and kept in the store, and told about."""
    runs = Runs(dsn)
    async with telling(config) as operations:
        try:
            return [await _do(runs, name, repository, trigger, operations) for name, repository in chosen.items()]
        finally:
            await runs.close()


async def _do(runs: Runs, name: str, repository: Repository, trigger: dict[str, Any], operations: Operations) -> Run:
    async def execute(run: Run, progress: Progress) -> Outcome:
        return await Reconciler(name, repository, operations).reconcile(order_of(run), progress)

    request = Request(KIND, name, trigger)
    identity = await runs.enqueue(request)
    return await done_here(runs, identity, request, execute, operations, "Another process works on this repository.")


@gitops.command()
@click.argument("repository", required=False)
@click.option("--run", "identity", type=click.UUID, help="Show this run alone, with what its steps wrote.")
@click.option("-n", "--limit", type=click.IntRange(1, 500), default=20, show_default=True, help="How many at most.")
@output_option
@config_option
@data_dir_option
@dsn_option
def history(
    repository: str | None,
    identity: UUID | None,
    limit: int,
    output: str,
    config_path: Path | None,
    data_dir: Path | None,
    dsn: str | None,
) -> None:
    """Show the runs there were, newest first: of one repository, or of all."""
    store = store_dsn(dsn, config_path, data_dir)
    show_history(store, KIND, repository, identity, limit=limit, output=output, none=_NO_RUNS)


def _chosen(config: Config, names: tuple[str, ...]) -> dict[str, Repository]:
    """Return the repositories of these names; all of them, where none is named."""
    extensions = [each for each in config.extensions.values() if isinstance(each, GitOpsConfig)]
    known = {name: repository for each in extensions for name, repository in each.repositories.items()}
    if not known:
        raise click.ClickException(
            "no repository is configured: add an extension gitops to the configuration file, and name that file with "
            "--config or OBSHUB_CONFIG; docs/gitops.md shows one"
        )
    if unknown := [name for name in names if name not in known]:
        raise click.ClickException(f"no repository is called {unknown[0]!r}; configured: {', '.join(sorted(known))}")
    return {name: known[name] for name in names or sorted(known)}
