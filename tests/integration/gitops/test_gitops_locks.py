"""What a git that was killed leaves locked, and what one that works has locked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.extensions.gitops.drift import check
from gateway.extensions.gitops.git import Git
from gateway.extensions.gitops.stale_locks import reclaim
from tests.integration.cli.processes import until
from tests.support.repositories import Repositories, git

LOCKS = ["index.lock", "HEAD.lock", "ORIG_HEAD.lock", "config.lock", "packed-refs.lock", "shallow.lock",
    "refs/heads/main.lock", "refs/remotes/origin/main.lock", "refs/obs-hub/good.lock", "objects/info/commit-graph.lock",
    "objects/maintenance.lock", "logs/HEAD.lock"]  # fmt: skip


@pytest.mark.parametrize("name", LOCKS)
async def test_what_a_killed_git_left_locked_is_reclaimed(repositories: Repositories, name: str) -> None:
    lock = repositories.hub / ".git" / name
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    revision = repositories.push()
    progress = await repositories.succeeds(repositories.settings())
    assert repositories.head == revision
    assert f"removed {lock}, which a git that was killed had left" in progress.output.text
    assert list(lock.parent.glob(lock.name)) == []


async def test_looking_for_drift_reclaims_them_too(repositories: Repositories) -> None:
    lock = repositories.hub / ".git/refs/remotes/origin/main.lock"
    lock.touch()
    repositories.push()
    found = await check(Git(repositories.settings()))
    assert found.drift == {"behind"}


def test_the_lock_of_a_real_git_that_was_killed_is_reclaimed(repositories: Repositories) -> None:
    """One that waits for an editor while it holds the index, as `git commit` with paths does."""
    (repositories.hub / "README").write_text("mine")
    editor = repositories.folder / "editor"
    editor.write_text("#!/bin/sh\nexec sleep 600\n")
    editor.chmod(0o755)
    env = {**os.environ, "GIT_EDITOR": str(editor)}
    command = ["git", "-c", "user.name=Dev", "-c", "user.email=dev@example.com", "commit", "README"]
    commit = subprocess.Popen(command, cwd=repositories.hub, env=env, start_new_session=True)
    try:
        lock = repositories.hub / ".git/index.lock"
        until(lock.exists)
        assert reclaim(repositories.hub, [repositories.hub / ".git"]) == []
        assert lock.exists()
    finally:
        os.killpg(commit.pid, signal.SIGKILL)
        commit.wait()
    assert lock in reclaim(repositories.hub, [repositories.hub / ".git"])
    git(repositories.hub, "checkout", "README")


@pytest.fixture
def opened(repositories: Repositories) -> Iterator[Path]:
    """A lock file that another process has open."""
    lock = repositories.hub / ".git/index.lock"
    program = "import sys; file = open(sys.argv[1], 'w'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        yield lock
        holder.communicate()


def test_one_that_somebody_has_open_stays_and_the_others_go(repositories: Repositories, opened: Path) -> None:
    other = repositories.hub / ".git/config.lock"
    other.touch()
    assert reclaim(repositories.hub, [repositories.hub / ".git"]) == [other]
    assert opened.exists()


def test_files_that_are_not_gits_and_links_stay(repositories: Repositories) -> None:
    folder = repositories.hub / ".git"
    (folder / "hooks").mkdir(exist_ok=True)
    (folder / "hooks/own.lock").touch()
    (folder / "x.lock").symlink_to(folder / "config")
    (repositories.hub / "yarn.lock").touch()
    assert reclaim(repositories.hub, [folder]) == []
