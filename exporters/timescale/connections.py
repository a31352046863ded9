"""Connections that can be broken off: a thread that waits for PostgreSQL must not keep the process from ending."""

from __future__ import annotations

import os
import socket
import threading
import weakref

import psycopg
from psycopg.conninfo import conninfo_to_dict

from exporters.timescale.layout import Connection

_CONNECT_TIMEOUT = 5
_OPTIONS = "-c lock_timeout=10s"
"""What a connection string's own options go before: nobody waits for ever for a lock that somebody else holds. Whoever
waits for one to change a table keeps all that come after waiting too."""


class Connections:
    """Opens connections to one server, and breaks off all that are open.

    ``dsn`` may be set anew: connections opened from then on use it.
    """

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._open: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._interrupted = False

    def open(self, options: str = "", *, autocommit: bool = True) -> Connection:
        """Open a connection. ``options`` (``-c name=value``) are added to those of the connection string, and win.

        Raises `psycopg.OperationalError` when the server does not answer, or after `interrupt`.
        """
        if self._interrupted:
            raise psycopg.OperationalError("the gateway is shutting down")
        dsn = self.dsn
        parameters = conninfo_to_dict(dsn)
        connection: Connection = psycopg.connect(
            dsn,
            autocommit=autocommit,
            options=" ".join(filter(None, (_OPTIONS, str(parameters.get("options") or ""), options))),
            application_name=str(parameters.get("application_name") or "obs-hub"),
            connect_timeout=int(parameters.get("connect_timeout") or _CONNECT_TIMEOUT),
        )
        with self._lock:
            self._open.add(connection)
            if self._interrupted:
                break_off(connection)
        return connection

    def interrupt(self) -> None:
        """Break off what runs on any connection, from another thread, and open no more."""
        with self._lock:
            self._interrupted = True
            for connection in self._open:
                break_off(connection)


def break_off(connection: Connection) -> None:
    """Shut the socket down under whoever waits for it: closing the connection is that thread's to do."""
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as its_socket:
            its_socket.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):
        pass  # it ended meanwhile
