"""Connections that can be broken off: a thread that waits for PostgreSQL must not keep the process from ending."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

import psycopg
import structlog
from psycopg.pq import TransactionStatus

from gateway.store.postgres import Connection, break_off, broken_off_after, connect

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_LOOK_SECONDS = 30.0
"""How often the server is asked whether it works on what it was given. Two looks find that it does not."""

_STATE = (
    "SELECT a.state, a.wait_event, a.state_change FROM (VALUES (%s::int)) AS its (pid)"
    " LEFT JOIN pg_stat_activity a ON a.pid = its.pid AND a.datname = current_database() AND a.usename = current_user"
)
# Through a pooler it may be somebody else's by now: one that is idle holds nothing.
_END = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND state_change = %s AND state <> 'idle'"
    " AND application_name = current_setting('application_name')"
)
_WAITING_FOR_MORE = ("idle", "idle in transaction", "idle in transaction (aborted)")

_State = tuple[int, str, datetime | None]
"""A process of the server, what it is in, and since when."""


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

    @contextmanager
    def lasting(self, settings: Mapping[str, str] | None = None) -> Iterator[Connection]:
        """Open a connection for the length of a block, whose statements may take as long as they need.

        No limit tells one that takes long from one whose answer got lost, which would be waited for until the process
        ends: the kernel finds out that a network is dead, but not that a proxy has lost its other half. So the server
        is asked now and then, and when it does not work on what it was given the connection is broken off.
        """
        with self.open(settings) as connection:
            ended = threading.Event()
            threading.Thread(target=self._watch, args=(connection, ended), name="watch", daemon=True).start()
            try:
                yield connection
            finally:
                ended.set()

    def _watch(self, connection: Connection, ended: threading.Event) -> None:
        before = None
        while not ended.wait(_LOOK_SECONDS):
            waits = connection.info.transaction_status is TransactionStatus.ACTIVE
            found = self._look(connection.server_process, before) if waits else None
            if found is not None and found == before and not ended.is_set():
                _log.warning("an answer of PostgreSQL got lost; its connection is broken off", state=found[1])
                break_off(connection)
                return
            before = found

    def _look(self, pid: int, before: _State | None) -> _State | None:
        """Return what a process of the server does, where that is to wait; when it did so before, end it.

        None where it works, or cannot be asked about.
        """
        try:
            with (
                self.open({"statement_timeout": f"{_LOOK_SECONDS:g}s"}) as connection,
                broken_off_after(_LOOK_SECONDS, connection),
            ):
                state, event, since = connection.execute(_STATE, (pid,)).fetchone() or (None, None, None)
                its = (pid, state or "ended", since)
                # One that is active and reads is in the middle of a COPY, whose rows got lost.
                if state is None or state in _WAITING_FOR_MORE or (state, event) == ("active", "ClientRead"):
                    if its == before:
                        connection.execute(_END, (pid, since))
                    return its
        except psycopg.Error:
            pass
        return None

    def interrupt(self) -> None:
        """Break off what runs on any connection, from another thread, and open no more."""
        with self._lock:
            self._interrupted = True
            for connection in self._open:
                break_off(connection)
