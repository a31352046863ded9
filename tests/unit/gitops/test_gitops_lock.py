"""One at a time works on a clone."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from gateway.extensions.gitops.config import Repository
from gateway.extensions.gitops.reconcile import BusyError, exclusive


async def test_a_clone_that_cannot_be_locked_is_not_worked_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As over NFS, which has locks of files only."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(BusyError, match="Bad file descriptor"):
        async with exclusive(Repository.model_construct(path=tmp_path)):
            pytest.fail("it is worked on")


async def test_another_who_works_on_it_is_waited_for_no_longer_than_told(tmp_path: Path) -> None:
    repository = Repository.model_construct(path=tmp_path)
    async with exclusive(repository):
        with pytest.raises(BusyError, match="another hub works on the clone"):
            async with exclusive(repository):
                pytest.fail("two work on it")
    async with exclusive(repository):
        pass
