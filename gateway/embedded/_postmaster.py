"""Whether a server runs on a data directory already: PostgreSQL's ``postmaster.pid``, read with suspicion."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import psutil

_PID_LINE, _PORT_LINE, _SOCKET_LINE = 0, 3, 4


@dataclass(frozen=True, slots=True)
class PidFile:
    """What ``postmaster.pid`` says. ``socket`` is the folder of the socket; None while the server has none."""

    pid: int
    port: int | None
    socket: Path | None


def read(data: Path) -> PidFile | None:
    """Read the file; None when there is none, or nothing sensible in it."""
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        pid = int(lines[_PID_LINE])
    except (OSError, ValueError, IndexError):
        return None
    socket = lines[_SOCKET_LINE].strip() if len(lines) > _SOCKET_LINE else ""
    port = lines[_PORT_LINE].strip() if len(lines) > _PORT_LINE else ""
    return PidFile(pid, int(port) if port.isdigit() else None, Path(socket) if socket else None)


def server_of(data: Path, pid: int) -> psutil.Process | None:
    """Return the process, if it is a PostgreSQL server on this data directory.

    The number alone proves nothing: after a crash or a restart of the machine any process may have it.
    """
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        if is_server_of(data, process):
            return process
    return None


def is_server_of(data: Path, process: psutil.Process) -> bool:
    """Tell whether a process is a PostgreSQL server, or one of its workers, on this data directory."""
    with contextlib.suppress(psutil.Error, OSError):
        # A server's working directory is its data directory, whatever its command line looked like.
        return process.name() == "postgres" and not gone(process) and Path(process.cwd()) == data.resolve()
    return False


def any_process_of(data: Path) -> psutil.Process | None:
    """Return a process that still works on this data directory: without its server, it ends in a moment."""
    return next((process for process in psutil.process_iter() if is_server_of(data, process)), None)


def gone(process: psutil.Process) -> bool:
    """Tell whether a process has ended, waited for or not."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
