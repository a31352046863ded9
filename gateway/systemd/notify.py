"""What a service tells systemd of itself, in the words of sd_notify(3).

One datagram of ``NAME=value`` lines to the Unix socket that ``NOTIFY_SOCKET`` names. Why no package does it:
docs/decisions/0018-units-and-their-users.md.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping

import structlog

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Notifier:
    """Tells the service manager how this process does. Without one (``address`` is None) every call does nothing.

    ``watchdog`` is the time in seconds after which the manager ends a service that has not called `alive`, None where
    it does not look. No call raises: a manager that does not listen is no reason to stop serving.
    """

    def __init__(self, address: str | None = None, watchdog: float | None = None) -> None:
        self._address = address
        self.watchdog = watchdog

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> Notifier:
        """Read what the service manager left in the environment, and take it out: it is not meant for children."""
        address = environ.pop("NOTIFY_SOCKET", None)
        microseconds, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        watched = microseconds.isdecimal() and int(microseconds) > 0 and pid in ("", str(os.getpid()))
        return cls(address or None, int(microseconds) / 1e6 if watched else None)

    def ready(self, status: str) -> None:
        """Say that the service serves. ``status`` is what ``systemctl status`` shows."""
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """Say what the service is doing."""
        self._send(f"STATUS={status}")

    def waiting(self, status: str, seconds: float) -> None:
        """Say what the start waits for, and that it takes up to so many seconds longer than the unit's limit."""
        self._send(f"STATUS={status}", f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def stopping(self, status: str, seconds: float) -> None:
        """Say that the service ends, and that this takes up to so many seconds, whatever the unit's own limit is."""
        self._send("STOPPING=1", f"STATUS={status}", f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def alive(self) -> None:
        """Say that the service still works. To be called more often than every ``watchdog`` seconds."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        # A leading @ stands for the NUL byte of Linux' abstract names.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        message = "\n".join(line.replace("\n", " ") for line in lines).encode()
        try:
            with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sender:
                sender.setblocking(False)
                sender.connect(address)
                sender.send(message)
        except OSError as error:
            _log.warning("systemd could not be told", message=lines[0], reason=str(error))
