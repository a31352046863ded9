"""A directory has one owner: the process that holds its lock."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.files.ownership import DirectoryInUseError, DirectoryLock, holder

HOLD = """
import sys
from pathlib import Path
from gateway.files.ownership import DirectoryLock
DirectoryLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_another_process_is_told_who_the_owner_is_until_that_is_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "held\n"
    mine = DirectoryLock(tmp_path)
    with pytest.raises(DirectoryInUseError, match=f"process {owner.pid} still uses it"):
        mine.acquire(patience=0)
    assert holder(tmp_path) == f"process {owner.pid}"
    assert not mine.held
    os.kill(owner.pid, signal.SIGKILL)
    owner.communicate()
    mine.acquire()
    assert mine.held


def test_who_only_looks_does_not_keep_an_owner_out(tmp_path: Path) -> None:
    first = DirectoryLock(tmp_path)
    first.acquire()
    first.release()
    looking = os.open(tmp_path / "lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    lock = DirectoryLock(tmp_path)
    with pytest.raises(DirectoryInUseError):
        lock.acquire(patience=0)
    os.close(looking)
    lock.acquire()
    assert holder(tmp_path) == f"process {os.getpid()}"


def test_nobody_owns_what_nobody_has_locked(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    lock = DirectoryLock(tmp_path)
    lock.acquire()
    lock.release()
    lock.release()
    assert holder(tmp_path) is None


def test_the_owner_of_a_directory_that_was_replaced_is_not_the_owner_of_the_new_one(tmp_path: Path) -> None:
    directory = tmp_path / "owned"
    directory.mkdir()
    former, lock = DirectoryLock(directory), DirectoryLock(directory)
    former.acquire()
    shutil.rmtree(directory)
    assert not former.held
    with pytest.raises(FileNotFoundError):
        former.acquire()
    directory.mkdir()
    lock.acquire()
    with pytest.raises(DirectoryInUseError):
        former.acquire(patience=0)


def test_a_file_system_without_locks_is_named_as_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    lock = DirectoryLock(tmp_path)
    with pytest.raises(OSError, match="its file system has no locks"):
        lock.acquire()
    assert not lock.held
