"""Real git repositories: a bare origin, the hub's clone of it, and a developer's clone who pushes."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

from opentelemetry.context import Context

from gateway.extensions.gitops.config import Repository
from gateway.extensions.gitops.git import FAILED, GOOD, Git
from gateway.extensions.gitops.reconcile import Order, Reconciler
from gateway.runs import Outcome, Progress, RunState
from tests.support import shared
from tests.support.operations import Told

_IDENTITY = ("-c", "user.name=Dev", "-c", "user.email=dev@example.com", "-c", "init.defaultBranch=main")


def git(folder: Path, *arguments: str) -> str:
    """Run git as a developer would."""
    # Nothing of whoever runs the tests: neither their settings nor their signing keys.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *_IDENTITY, *arguments], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"git {arguments}: {done.stderr}"
    return done.stdout.strip()


def _head(folder: Path) -> str:
    """The revision that a git directory's HEAD stands for, without a process where its ref is a file of its own."""
    said = (folder / "HEAD").read_text().strip()
    ref = folder / said.removeprefix("ref: ")
    if said.startswith("ref: "):
        return ref.read_text().strip() if ref.is_file() else git(folder, "rev-parse", "HEAD")
    return said


def _make(folder: Path) -> None:
    """Make what the repositories of each test are a copy of."""
    folder.mkdir()
    origin, dev = folder / "origin.git", folder / "dev"
    git(folder, "init", "--quiet", "--bare", "--template=", str(origin))
    git(origin, "config", "receive.autogc", "false")
    git(folder, "clone", "--quiet", "--template=", f"file://{origin}", str(dev))
    git(dev, "checkout", "--quiet", "-B", "main")
    git(dev, "config", "maintenance.auto", "false")
    (dev / "README").write_text("hello\n")
    git(dev, "add", "README")
    git(dev, "commit", "--quiet", "--message", "Change")
    git(dev, "push", "--quiet", "origin", "HEAD:main")
    git(folder, "clone", "--quiet", "--template=", f"file://{origin}", str(folder / "hub"))
    # What the developer commits is at the origin at once, and a push only says that it is there.
    shutil.rmtree(dev / ".git/objects")
    (dev / ".git/objects").symlink_to("../../origin.git/objects")


class Repositories:
    """An origin with one commit, the hub's clone ``hub``, and the developer's clone ``dev``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Not the same for all: what a run has left is ended by its id, all over the machine.
        self.run_id = f"run-{uuid.uuid4()}"
        self.origin, self.hub, self.dev = folder / "origin.git", folder / "hub", folder / "dev"
        self._copy(shared.once("repositories", _make))
        self.first = _head(self.origin)

    def _copy(self, made: Path) -> None:
        subprocess.run(["cp", "-a", *map(str, made.iterdir()), str(self.folder)], check=True)
        for clone in (self.hub, self.dev):
            config = clone / ".git/config"
            config.write_text(config.read_text().replace(f"file://{made}/", f"file://{self.folder}/"))

    @property
    def url(self) -> str:
        return f"file://{self.origin}"

    def commit(self, files: dict[str, str] | None = None, message: str = "Change", *options: str) -> str:
        """Commit files in the developer's clone; return the revision."""
        for name, content in (files or {}).items():
            path = self.dev / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        git(self.dev, "add", "--all")
        git(self.dev, *options, "commit", "--quiet", "--allow-empty", "--message", message)
        return _head(self.dev / ".git")

    def push(self, files: dict[str, str] | None = None, message: str = "Change") -> str:
        """Commit, and let the origin's branch stand there, as a push that may be forced does. Returns the revision.

        That takes no process: the objects are at the origin already.
        """
        revision = self.commit(files, message)
        fresh = self.origin / "pushed"
        fresh.write_text(f"{revision}\n")
        fresh.replace(self.origin / "refs/heads/main")
        return revision

    @property
    def head(self) -> str:
        """Where the hub's clone stands."""
        return _head(self.hub / ".git")

    def settings(self, *steps: dict[str, Any], **settings: Any) -> Repository:
        return Repository.model_validate({"path": str(self.hub), "steps": list(steps), **settings})

    async def reconcile(
        self, repository: Repository, *, force: bool = False, resumed: bool = False, told: Told | None = None
    ) -> tuple[Outcome, Progress]:
        """Reconcile the hub's clone once."""
        progress = Progress(Context())
        reconciler = Reconciler("home", repository, (told or Told()).operations)
        return await reconciler.reconcile(Order(self.run_id, force, resumed), progress), progress

    async def succeeds(self, repository: Repository, **options: Any) -> Progress:
        outcome, progress = await self.reconcile(repository, **options)
        assert outcome.state is RunState.SUCCEEDED, outcome.error
        return progress

    async def fails(self, repository: Repository, **options: Any) -> str:
        """Reconcile in vain, and return why it failed."""
        outcome, _ = await self.reconcile(repository, **options)
        assert outcome.state is RunState.FAILED
        assert outcome.error is not None
        return outcome.error

    async def good(self) -> str | None:
        return (await Git(self.settings()).commits(GOOD))[GOOD]

    async def failed(self) -> str | None:
        return (await Git(self.settings()).commits(FAILED))[FAILED]
