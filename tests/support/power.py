"""A disk that loses power: what was not on it by then is gone, as after a plug was pulled."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.integration.cli.processes import until

# _IOR('X', 125, __u32) and EXT4_GOING_FLAGS_NOLOGFLUSH. Source: Linux, fs/ext4/ext4.h.
_SHUTDOWN = 0x8004587D
_WITHOUT_FLUSHING_THE_JOURNAL = 2
_PROGRAMS = ("mount", "umount", "mkfs.ext4")


class Disk:
    """An ext4 file system in a file, mounted at ``place``.

    When its power is cut, the journal ends at once: nothing that is only in memory reaches the disk any more, and who
    writes or waits for the disk gets an error. With power, the journal is replayed. That is how file systems are tested
    for a loss of power; what it does not show is a disk that lies about what it has written.
    """

    def __init__(self, place: Path, image: Path) -> None:
        self.place = place
        self._image = image

    def make(self, size: str) -> None:
        """Make it and mount it; skip the test where that is not possible."""
        if os.geteuid() != 0 or not all(map(shutil.which, _PROGRAMS)):
            pytest.skip("only root with e2fsprogs can cut the power of a file system")
        with self._image.open("wb") as file:
            file.truncate(int(size.removesuffix("m")) * 2**20)
        subprocess.run(["mkfs.ext4", "-q", str(self._image)], check=True)
        self.place.mkdir(parents=True, exist_ok=True)
        if (problem := self._mount()) is not None:
            pytest.skip(f"a file system in a file cannot be mounted here: {problem}")

    def sync(self) -> None:
        """Write down everything that is only in memory."""
        subprocess.run(["sync", "--file-system", str(self.place)], check=True)

    def cut(self) -> None:
        """Cut the power."""
        top = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(top, _SHUTDOWN, _WITHOUT_FLUSHING_THE_JOURNAL.to_bytes(4, "little"))
        finally:
            os.close(top)

    def restore(self) -> None:
        """Give it power again. Whoever had it open must have ended."""
        # What was killed may still be about to close its files.
        until(lambda: subprocess.run(["umount", str(self.place)], check=False).returncode == 0)
        assert (problem := self._mount()) is None, problem

    def remove(self) -> None:
        """Unmount it for good."""
        subprocess.run(["umount", "--lazy", str(self.place)], check=False)
        with suppress(FileNotFoundError):
            self._image.unlink()

    def _mount(self) -> str | None:
        command = ["mount", "-o", "loop", str(self._image), str(self.place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stderr.strip() if done.returncode else None


@contextmanager
def disk(place: Path, image: Path, size: str = "512m") -> Iterator[Disk]:
    """A disk for the length of a block."""
    made = Disk(place, image)
    made.make(size)
    try:
        yield made
    finally:
        made.remove()
