"""The data directory: all that a hub keeps on this machine, and how other commands find the hub that runs on it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import platformdirs

from gateway.files.durability import replace_file
from gateway.files.locks import PATIENCE, FileLock, LockHeldError, NoLocksError, is_locked, pid_of_holder

SYSTEM_PATH = Path("/var/lib/obs-hub")
"""Root's data directory, and that of the system's units."""


class DataDirError(Exception):
    """The data directory cannot be used. The message says which and what to do."""


class AlreadyRunningError(DataDirError):
    """Another hub runs on the data directory. ``pid`` is its process, where known."""

    def __init__(self, path: Path, pid: int | None) -> None:
        super().__init__(
            f"another hub{f' (pid {pid})' if pid else ''} runs on the data directory {path}; "
            "stop it, or choose another directory with --data-dir or OBSHUB_DATA_DIR"
        )
        self.path = path
        self.pid = pid


@dataclass(frozen=True, slots=True)
class Running:
    """What a running hub says of itself.

    ``dsn`` is the connection string of its store where that holds no secret; a secret is not written down, for it
    would be that of the start after it was rotated. ``config`` is the file that the hub was configured by, which says
    how to connect now. ``endpoints`` maps what listens to its address.
    """

    pid: int
    dsn: str | None = None
    endpoints: dict[str, str] = field(default_factory=dict)
    config: str | None = None


class DataDir:
    """One data directory. Making the object touches nothing; `locked` makes the directory and holds it."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - symbolic links stay as the user wrote them

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"DataDir({str(self.path)!r})"

    @classmethod
    def resolve(cls, option: Path | None = None, environ: Mapping[str, str] = os.environ) -> DataDir:
        """Find the data directory: ``--data-dir``, else ``OBSHUB_DATA_DIR``, else the user's XDG state folder.

        Root's is a place of the system, unless a hub of an earlier version has its data in root's own folder.
        """
        if option is not None:
            return cls(option)
        if named := environ.get("OBSHUB_DATA_DIR"):
            return cls(Path(named))
        own = platformdirs.user_state_path("obs-hub")
        if os.geteuid() != 0 or os.environ.get("XDG_STATE_HOME") or (own.is_dir() and not SYSTEM_PATH.exists()):
            return cls(own)
        return cls(SYSTEM_PATH)

    @property
    def postgres(self) -> Path:
        """Where the embedded PostgreSQL lives."""
        return self.path / "postgres"

    @property
    def lock_file(self) -> Path:
        """The file whose lock a running hub holds."""
        return self.path / "hub.lock"

    @property
    def state_file(self) -> Path:
        """The file in which a running hub says where it is reached."""
        return self.path / "hub.json"

    def create(self) -> None:
        """Make the directory, for its owner alone, unless it is there. Raises `DataDirError` when it cannot."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[DataDir]:
        """Hold the directory for the length of a block: one hub at a time runs on it.

        The lock is the kernel's and ends with the process, however that ends. Raises `AlreadyRunningError` while
        another hub holds it, `DataDirError` when the directory cannot be made or written to.
        """
        self.create()
        self._refuse_another_users()
        lock = FileLock(self.lock_file, named=True)
        try:
            lock.acquire(PATIENCE)
        except LockHeldError:
            raise AlreadyRunningError(self.path, pid_of_holder(self.lock_file)) from None
        except NoLocksError as error:
            raise DataDirError(
                f"the data directory {self.path} is on a file system without locks: {error.reason}"
            ) from error
        except OSError as error:
            raise self._unusable(error) from error
        try:
            try:
                self.state_file.unlink(missing_ok=True)  # of a hub that was killed
            except OSError as error:
                raise self._unusable(error) from error
            yield self
            with contextlib.suppress(OSError):
                self.state_file.unlink(missing_ok=True)
        finally:
            lock.release()

    def _refuse_another_users(self) -> None:
        """Keep root from leaving files of its own among those of the units' user, who could not read them then."""
        owner = self.path.stat().st_uid
        if os.geteuid() == 0 and owner != 0 and self.path == SYSTEM_PATH:
            raise DataDirError(
                f"the data directory {self.path} belongs to another user (uid {owner}), as that of the systemd unit "
                f"does; run this as that user (`sudo -u '#{owner}' …`), or choose another directory with --data-dir"
            )

    def record(self, running: Running) -> None:
        """Write down where the hub is reached; for the holder of the lock. Raises `DataDirError` when it cannot."""
        try:
            replace_file(self.state_file, json.dumps(asdict(running), indent=2).encode(), lasting=False)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> DataDirError:
        return DataDirError(
            f"the data directory {self.path} cannot be used: {error.strerror} ({error.filename or self.path}); "
            "choose another with --data-dir or OBSHUB_DATA_DIR, or make it writable for this user"
        )


def read_running(directory: DataDir) -> Running | None:
    """Return what the hub on this directory says of itself; None when none runs, or it is still starting.

    A state file that a killed hub left behind counts for nothing: what counts is that the lock is held. Raises
    `DataDirError` when a hub may run but this user may not look.
    """
    try:
        return _read(directory) if is_locked(directory.lock_file) else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataDirError(
            f"cannot look for a hub in {directory}: {error.strerror}; run as the user that runs it"
        ) from error


def _read(directory: DataDir) -> Running | None:
    try:
        state = json.loads(directory.state_file.read_text(encoding="utf-8"))
        return Running(int(state["pid"]), state["dsn"], dict(state["endpoints"]), state.get("config"))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
