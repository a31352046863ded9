"""How many connections a listener lets in, and what becomes of those beyond.

A connection too many is closed at once: clients of OTLP keep what they have and come back. It is not left waiting, for
whoever waits for an answer does not look for another way.
"""

from __future__ import annotations

import errno
import resource
import socket
from collections.abc import Callable
from typing import Any

import structlog

from gateway.base.rate_limited_log import LogRateLimit

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_RESERVED = 128
"""File descriptors that connections leave to everything else: the spool, destinations, files that are read again. Of
few, a quarter."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class ConnectionLimit:
    """Lets in ``most`` connections at once, over all sockets of one listener, and fewer where descriptors run out.

    ``setting`` is where the listener's settings stand. ``refused`` hears that and the reason of each refusal:
    ``too_many_connections`` or ``no_file_descriptors``.
    """

    def __init__(self, setting: str, most: int, refused: Callable[[str, str], None]) -> None:
        self._setting = setting
        self._most = most
        self._refused = refused
        self._open: set[socket.socket] = set()
        self._warnings = LogRateLimit()

    def admits(self, connection: socket.socket) -> bool:
        """Tell whether a connection may stay, and count it either way."""
        if len(self._open) >= self._most:
            self._open = {each for each in self._open if each.fileno() >= 0}
        if len(self._open) >= self._most:
            self.refuse(
                "too_many_connections",
                f"{self._most} are open; if these are no strangers, set {self._setting}.max_connections higher",
            )
            return False
        # The kernel gives the lowest number that is free, so this one tells how many are in use.
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit != resource.RLIM_INFINITY and connection.fileno() >= limit - min(_RESERVED, limit // 4):
            self.refuse("no_file_descriptors", f"this process may open {limit} files; {self._way_out()}")
            return False
        self._open.add(connection)
        return True

    def exhausted(self, error: OSError) -> None:
        """Note that a connection could not be taken at all; it waits."""
        self.refuse("no_file_descriptors", f"{error.strerror}; {self._way_out()}")

    def refuse(self, reason: str, why: str) -> None:
        """Count a refusal and log it, once a minute."""
        self._refused(self._setting, reason)
        if refused := self._warnings.count():
            _log.warning("connections are refused", listener=self._setting, refused=refused, reason=why)

    def _way_out(self) -> str:
        return f"raise LimitNOFILE= of the service (ulimit -n), or set {self._setting}.max_connections lower"


class Listener(socket.socket):
    """A listening socket from which `asyncio` takes only what is admitted."""

    _resting = False

    def __init__(self, listening: socket.socket, admission: ConnectionLimit) -> None:
        super().__init__(fileno=listening.detach())
        self._admission = admission

    def accept(self) -> tuple[socket.socket, Any]:
        """Take a connection. Raises `BlockingIOError` when there is none to take, which ends asyncio's round."""
        if self._resting:
            # asyncio plans a pause of a second, and yet goes on asking in this round, as often as the backlog is long,
            # with an error in the log and another plan each time (CPython 3.11).
            self._resting = False
            raise BlockingIOError(errno.EAGAIN, "no connection is taken for a moment")
        try:
            connection, address = super().accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self._resting = True
                self._admission.exhausted(error)
            raise
        if not self._admission.admits(connection):
            connection.close()
            raise BlockingIOError(errno.EAGAIN, "a connection was refused")
        return connection, address
