"""How far a clone is from what its remote says, and what to tell about it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
from opentelemetry._logs import SeverityNumber
from opentelemetry.metrics import CallbackOptions, Observation

from gateway.extensions.gitops.config import Repository
from gateway.extensions.gitops.git import Git, GitError, ReconcileRefusedError, State
from gateway.extensions.gitops.reconcile import exclusive
from gateway.files.durability import replace_file
from gateway.operations import Operations

_LOOK = "last-look"

KINDS = ("dirty", "wrong_branch", "detached", "local_commits", "behind", "failed_revision", "unusable")
"""What drift there may be. ``failed_revision``: the remote's revision was tried and failed. ``unusable``: the clone
cannot be looked at, or the remote not be asked."""


@dataclass(frozen=True, slots=True)
class Check:
    """What a look at a clone found. ``problem`` says why there is no state, or why it may be old."""

    state: State | None
    drift: frozenset[str]
    problem: str | None = None
    due: bool = False
    """Whether a run would do something."""


def drift_of(repository: Repository, state: State) -> frozenset[str]:
    """Return the kinds of drift that a state shows."""
    found = {
        "dirty": bool(state.dirty),
        "detached": state.branch is None,
        "wrong_branch": state.branch not in (None, repository.branch),
        "local_commits": state.ahead > 0,
        "behind": state.behind > 0,
        "failed_revision": state.failed is not None and state.failed == state.upstream,
    }
    return frozenset(kind for kind, is_so in found.items() if is_so)


async def check(git: Git, *, fetch: bool = True) -> Check:
    """Look at a clone, after asking its remote unless told otherwise. Changes nothing that is its owner's.

    Raises `BusyError` when somebody works on it.
    """
    repository = git.repository
    if not repository.path.exists() and repository.url is not None:
        return Check(None, frozenset({"behind"}), "there is no clone yet", due=True)
    problem = None
    try:
        async with exclusive(repository):
            await git.check_clone()
            if fetch:
                await git.reclaim()
                try:
                    await git.fetch(maintain=False)  # that can wait for what comes of it
                except GitError as error:
                    problem = str(error)
            state = await git.state()
            drift = drift_of(repository, state)
            unfinished = state.returning is not None or state.moving is not None
    except (GitError, ReconcileRefusedError) as error:
        return Check(None, frozenset({"unusable"}), str(error))
    blocked = drift & {"dirty", "detached", "wrong_branch", "local_commits", "failed_revision"}
    due = unfinished or (not blocked and state.upstream is not None and state.upstream != state.good)
    return Check(state, drift | ({"unusable"} if problem else set()), problem, due and problem is None)


class CheckNote(msgspec.Struct, frozen=True):
    """What the hub's last look at a clone found, as a note in the clone. ``at`` is in seconds since the Unix epoch."""

    at: float
    drift: tuple[str, ...]
    problem: str | None = None

    def is_recent(self, repository: Repository) -> bool:
        """Tell whether another look, which would replace it, is not long overdue: then no hub looks any more."""
        if repository.interval is None:
            return False
        patience = 3 * repository.interval + repository.fetch_timeout
        return 0 <= time.time() - self.at <= patience.total_seconds()


async def note_check(git: Git, found: Check) -> None:
    """Write down what a look found, for `obs-hub gitops status`. Where that fails, nothing old stays."""
    try:
        file = await git.notes() / _LOOK
    except (GitError, OSError):
        return  # what is no clone says so itself
    try:
        note = CheckNote(time.time(), tuple(sorted(found.drift)), found.problem)
        replace_file(file, msgspec.json.encode(note), lasting=False)
    except OSError:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


async def last_check(git: Git) -> CheckNote | None:
    """Return what the hub's last look found; None where that is not known."""
    try:
        return msgspec.json.decode((await git.notes() / _LOOK).read_bytes(), type=CheckNote)
    except (GitError, OSError, msgspec.MsgspecError):
        return None


def with_note(found: Check, note: CheckNote) -> Check:
    """Add to what is found without asking the remote what the hub found when it asked."""
    if "unusable" not in note.drift or "unusable" in found.drift:
        return found
    return Check(found.state, found.drift | {"unusable"}, note.problem)


class DriftReport:
    """Reports drift as metrics, always, and as events, when it comes and goes."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._checks: dict[str, Check] = {}
        meter = operations.meter
        meter.create_observable_gauge(
            "obs_hub.gitops.drift", [self._observe_drift], "1", "1 where a clone differs from its remote in this way"
        )
        meter.create_observable_gauge(
            "obs_hub.gitops.ahead", [self._observe_ahead], "{commit}", "Commits that only the clone has"
        )
        meter.create_observable_gauge(
            "obs_hub.gitops.behind", [self._observe_behind], "{commit}", "Commits that only the remote has"
        )

    def get(self, name: str) -> Check | None:
        """Return what was found last of a repository."""
        return self._checks.get(name)

    def found(self, name: str, check: Check) -> None:
        """Take in what was found of a repository."""
        before = self._checks.get(name)
        self._checks[name] = check
        was = before.drift if before else frozenset()
        attributes = {"obs_hub.gitops.repository": name}
        for kind in sorted(check.drift - was):
            self._operations.event(
                "gitops.drift.detected",
                f"gitops {name}: {kind}" + (f": {check.problem}" if kind == "unusable" else ""),
                {**attributes, "obs_hub.gitops.drift": kind},
                SeverityNumber.WARN,
            )
        for kind in sorted(was - check.drift):
            self._operations.event(
                "gitops.drift.resolved",
                f"gitops {name}: no longer {kind}",
                {**attributes, "obs_hub.gitops.drift": kind},
            )

    def _observe_drift(self, _: CallbackOptions) -> Iterable[Observation]:
        for name, check in list(self._checks.items()):
            for kind in KINDS:
                yield Observation(int(kind in check.drift), {"repository": name, "kind": kind})

    def _observe_ahead(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(state.ahead, {"repository": name}) for name, state in self._states().items()]

    def _observe_behind(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(state.behind, {"repository": name}) for name, state in self._states().items()]

    def _states(self) -> Mapping[str, State]:
        return {name: check.state for name, check in list(self._checks.items()) if check.state is not None}
