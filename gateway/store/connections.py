"""Connections that can be broken off: a thread that waits for PostgreSQL must not keep the process from ending."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping

import psycopg

from gateway.store.postgres import Connection, break_off, connect


class Connections:
    """Opens connections to one server, and breaks off all that are open.

    ``dsn`` may be set anew: connections opened from then on use it. So may ``search_path``, which is otherwise as the
    connection string, the database and the role have it.
    """

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.search_path: str | None = None
        self._open: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._interrupted = False

    def open(self, settings: Mapping[str, str] | None = None, *, autocommit: bool = True) -> Connection:
        """Open a connection. ``settings`` of PostgreSQL win over those of the connection string.

        Raises `psycopg.OperationalError` when the server does not answer, or after `interrupt`, and
        `UnusableServerError` for what only a person can mend.
        """
        if self._interrupted:
            raise psycopg.OperationalError("the gateway is shutting down")
        if self.search_path is not None:
            settings = {"search_path": self.search_path, **(settings or {})}
        connection = connect(self.dsn, autocommit=autocommit, settings=settings)
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
