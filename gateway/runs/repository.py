"""The runs in the store: asked for, claimed, kept alive, finished, looked up.

The database keeps the promises that concern several gateways: one run of a name is queued at most, one runs at most,
and who lost a run to another can no longer change it.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from gateway.runs.model import Enqueued, Request, Run, RunState, Trace
from gateway.runs.text import MAX_ERROR, bounded, clean, clean_json
from gateway.store import connect_async

_TIMEOUT = 15.0
"""Seconds that one operation may take. A database that does not answer is as good as away."""

STALE_AFTER = timedelta(seconds=60)
"""After how long without a heartbeat a run counts as left behind by its gateway."""
MAX_ATTEMPTS = 3
"""How often a run is started at most: one that ends its gateway every time must not do so for ever."""

_T = TypeVar("_T")
_Connection = psycopg.AsyncConnection[dict[str, Any]]

_LEFT_BEHIND = """
    state = 'running' AND kind = %(kind)s AND name = ANY(%(names)s)
    AND (heartbeat_at < now() - %(stale)s::interval OR (holder = %(holder)s AND NOT id = ANY(%(mine)s::uuid[])))
"""
_GIVE_UP = f"""
UPDATE run SET
    state = 'interrupted', finished_at = now(),
    error = format('the gateway ended while the run was under way, %%s times; not tried again', attempt)
WHERE attempt >= %(attempts)s AND heartbeat_at > 'epoch' AND {_LEFT_BEHIND}
""".encode()  # noqa: S608 - what is written above
_CLAIM = f"""
UPDATE run SET
    state = 'running', started_at = coalesce(started_at, now()), heartbeat_at = now(), attempt = attempt + 1,
    holder = %(holder)s
WHERE id = (
    SELECT id FROM run r
    WHERE ({_LEFT_BEHIND}) OR (
        state = 'queued' AND kind = %(kind)s AND name = ANY(%(names)s)
        AND NOT EXISTS (SELECT FROM run o WHERE o.kind = r.kind AND o.name = r.name AND o.state = 'running')
    )
    ORDER BY state DESC, requested_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING *
""".encode()  # noqa: S608 - what is written above


class RunsUnavailableError(Exception):
    """The store cannot be asked at this moment. The message says why."""


class RunLostError(Exception):
    """The run is no longer this gateway's: another took it over, or it was finished."""


class Runs:
    """The runs of one store, over one connection that is made again when it breaks.

    ``holder`` tells this gateway from others. With the same holder after a restart, what the former process left behind
    is taken over at once; otherwise it takes `STALE_AFTER`. So no two that run at the same time may share one.

    ``dsn`` is the connection string, or finds it for each new connection: its password may be rotated.

    Every method raises `RunsUnavailableError` when the database is away, or has not been migrated yet.
    """

    def __init__(self, dsn: str | Callable[[], str], holder: str | None = None) -> None:
        self._dsn = dsn if callable(dsn) else lambda: dsn
        self._holder = holder or str(uuid.uuid4())
        self._connection: _Connection | None = None
        self._lock = asyncio.Lock()
        self._mine: set[UUID] = set()

    async def close(self) -> None:
        """Close the connection. The next operation would open one again."""
        async with self._lock:
            await self._disconnect()

    # -- asking --------------------------------------------------------------------------------------------------

    async def enqueue(self, request: Request, *, supersede: bool = True) -> UUID:
        """Ask for a run and return its id.

        When a run of that name waits already, this one takes its place; with ``supersede=False`` the waiting one stays
        and its id is returned.
        """

        async def work(connection: _Connection) -> UUID:
            return await _enqueue(connection, request, supersede)

        return await self._do(work)

    async def enqueue_delivery(self, identities: Sequence[str], requests: Sequence[Request]) -> Enqueued:
        """Ask for runs on behalf of a webhook delivery, in one transaction with remembering the delivery.

        It came before when any of its identities did. Give them in the same order always: who comes second with one
        waits for the first.
        """

        async def work(connection: _Connection) -> Enqueued:
            known = [clean(identity) for identity in identities]
            for identity in known:
                remembered = await connection.execute(
                    "INSERT INTO webhook_delivery (id, run_ids) VALUES (%s, '{}') ON CONFLICT DO NOTHING", (identity,)
                )
                if not remembered.rowcount:
                    cursor = await connection.execute("SELECT run_ids FROM webhook_delivery WHERE id = %s", (identity,))
                    row = await cursor.fetchone()
                    ids = row["run_ids"] if row else []
                    await connection.execute(
                        "UPDATE webhook_delivery SET run_ids = %s WHERE id = ANY(%s) AND run_ids = '{}'", (ids, known)
                    )
                    return Enqueued(tuple(ids), replayed=True)
            ids = [await _enqueue(connection, request, True) for request in requests]
            await connection.execute("UPDATE webhook_delivery SET run_ids = %s WHERE id = ANY(%s)", (ids, known))
            return Enqueued(tuple(ids))

        return await self._do(work)

    # -- doing ---------------------------------------------------------------------------------------------------

    async def claim(self, kind: str, names: Sequence[str]) -> Run | None:
        """Take the next run to do, of one of these names, and return it; None when there is none.

        A run that a gateway left behind goes first (see `Run.resumed`), unless it was started `MAX_ATTEMPTS` times:
        then it is marked interrupted. The run must be kept alive by `heartbeat` and ended by `finish`.
        """
        claimed: Run | None = None

        async def work(connection: _Connection) -> Run | None:
            nonlocal claimed
            if claimed is not None:
                self.forget(claimed)
            parameters = {
                "kind": kind,
                "names": list(names),
                "holder": self._holder,
                "mine": list(self._mine),
                "stale": STALE_AFTER,
                "attempts": MAX_ATTEMPTS,
            }
            await connection.execute(_GIVE_UP, parameters)
            row = await (await connection.execute(_CLAIM, parameters)).fetchone()
            claimed = None if row is None else _run(row)
            if claimed is not None:
                self._mine.add(claimed.id)
            return claimed

        try:
            return await self._do(work)
        except BaseException as error:
            if claimed is not None:
                self.forget(claimed)
            if isinstance(error, psycopg.errors.UniqueViolation):
                return None  # another gateway started a run of that name at this moment
            raise

    async def heartbeat(self, run: Run, *, counts: Mapping[str, int] | None = None, output: str | None = None) -> None:
        """Say that a run goes on, and how far it is. Raises `RunLostError` when it is this gateway's no longer."""
        await self._change(
            run,
            "heartbeat_at = now(), counts = coalesce(%(counts)s::jsonb, counts), output = coalesce(%(output)s, output)",
            counts=None if counts is None else _json(counts),
            output=None if output is None else bounded(clean(output)),
        )

    async def finish(
        self,
        run: Run,
        state: RunState,
        *,
        counts: Mapping[str, int] | None = None,
        result: Mapping[str, Any] | None = None,
        output: str = "",
        error: str | None = None,
    ) -> None:
        """End a run. Raises `RunLostError` when it is this gateway's no longer."""
        try:
            await self._change(
                run,
                "state = %(state)s, finished_at = now(), counts = %(counts)s::jsonb, result = %(result)s::jsonb,"
                " output = %(output)s, error = %(error)s",
                state=state.value,
                counts=_json(counts or {}),
                result=_json(result or {}),
                output=bounded(clean(output)),
                error=None if error is None else bounded(clean(error), MAX_ERROR),
            )
        except RunLostError:
            # A finish whose answer was lost with the connection is done again, and then finds its own work.
            now = await self.get(run.id)
            if now is None or (now.state, now.attempt, now.holder) != (state, run.attempt, self._holder):
                self.forget(run)
                raise
        self.forget(run)

    async def set_trace(self, run: Run, trace: Trace) -> None:
        """Say which trace a run belongs to that was asked for outside of one."""
        await self._change(
            run, "trace_id = %(trace)s, parent_span_id = %(span)s", trace=trace.trace_id, span=trace.span_id
        )

    async def release(self, run: Run) -> None:
        """Leave a run to whoever is first to resume it, and as often as it takes: this gateway ends, as it was told."""
        await self._change(run, "heartbeat_at = 'epoch'")
        self.forget(run)

    def forget(self, run: Run) -> None:
        """Stop holding a run without ending it: this gateway, or another one later, will resume it."""
        self._mine.discard(run.id)

    async def _change(self, run: Run, what: str, **parameters: Any) -> None:
        async def work(connection: _Connection) -> int:
            cursor = await connection.execute(
                f"UPDATE run SET {what} WHERE id = %(id)s AND state = 'running'"  # noqa: S608 - what is written above
                " AND holder = %(holder)s AND attempt = %(attempt)s".encode(),
                {"id": run.id, "holder": self._holder, "attempt": run.attempt, **parameters},
            )
            return cursor.rowcount

        if not await self._do(work):
            raise RunLostError(f"the run {run.id} was taken over by another gateway")

    # -- looking -------------------------------------------------------------------------------------------------

    async def get(self, identity: UUID) -> Run | None:
        """Return a run, or None where there is none of that id."""
        found = await self._select("WHERE id = %(id)s", {"id": identity})
        return found[0] if found else None

    async def history(self, kind: str, name: str | None = None, *, limit: int = 50) -> list[Run]:
        """Return the newest runs of a kind, newest first; ``name`` limits them to those of one name.

        They come without their output, which `get` has: of many runs that is many megabytes.
        """
        return await self._select(
            "WHERE kind = %(kind)s AND (%(name)s::text IS NULL OR name = %(name)s)"
            " ORDER BY requested_at DESC, id LIMIT %(limit)s",
            {"kind": kind, "name": name, "limit": limit},
            columns=", ".join(field.name for field in fields(Run) if field.name != "output"),
        )

    async def folded_history(self, kind: str, name: str | None = None, *, limit: int = 50) -> list[tuple[Run, int]]:
        """Return the newest runs like `history`, but those that a later one did the work of counted to that one."""
        shown = await self._select(
            "WHERE kind = %(kind)s AND (%(name)s::text IS NULL OR name = %(name)s) AND state <> 'superseded'"
            " ORDER BY requested_at DESC, id LIMIT %(limit)s",
            {"kind": kind, "name": name, "limit": limit},
            columns=", ".join(field.name for field in fields(Run) if field.name != "output"),
        )

        async def work(connection: _Connection) -> dict[UUID, UUID]:
            query = b"SELECT id, superseded_by FROM run WHERE kind = %s AND superseded_by IS NOT NULL"
            rows = await (await connection.execute(query, (kind,))).fetchall()
            return {row["id"]: row["superseded_by"] for row in rows}

        later = await self._do(work) if shown else {}
        folded = dict.fromkeys((run.id for run in shown), 0)
        for identity in later:
            last, steps = identity, 0
            while last in later and steps <= len(later):
                last, steps = later[last], steps + 1
            if last in folded:
                folded[last] += 1
        return [(run, folded[run.id]) for run in shown]

    async def _select(self, clause: str, parameters: Mapping[str, Any], columns: str = "*") -> list[Run]:
        async def work(connection: _Connection) -> list[Run]:
            query = f"SELECT {columns} FROM run {clause}".encode()  # noqa: S608 - what is written above
            return [_run(row) for row in await (await connection.execute(query, parameters)).fetchall()]

        return await self._do(work)

    # -- keeping -------------------------------------------------------------------------------------------------

    async def prune(
        self, kept: timedelta, kind: str | None = None, *, kept_deliveries: timedelta = timedelta(days=7)
    ) -> int:
        """Remove runs that ended longer ago, but the latest of each name; and what is known of old deliveries.

        ``kind`` limits it to the runs of one kind.

        Returns how many runs were removed. Any gateway may do so at any time.
        """

        async def work(connection: _Connection) -> int:
            await connection.execute(
                "DELETE FROM webhook_delivery WHERE received_at < now() - %s::interval", (kept_deliveries,)
            )
            cursor = await connection.execute(
                "DELETE FROM run r WHERE finished_at < now() - %s::interval AND kind = coalesce(%s, kind) AND EXISTS"
                " (SELECT FROM run l WHERE l.kind = r.kind AND l.name = r.name AND l.finished_at > r.finished_at"
                "  AND l.state <> 'superseded')",
                (kept, kind),
            )
            return cursor.rowcount

        return await self._do(work)

    # -- the connection ------------------------------------------------------------------------------------------

    async def _do(self, work: Callable[[_Connection], Awaitable[_T]]) -> _T:
        """Do something in a transaction. All of it may be done twice: a broken connection is made anew once."""
        async with self._lock:
            try:
                return await self._once(work)
            except psycopg.errors.UndefinedTable:
                raise RunsUnavailableError(
                    "the store has no table of runs yet: run `obs-hub db migrate`, or start a gateway that stores there"
                ) from None
            except psycopg.errors.UniqueViolation:
                raise
            except (psycopg.Error, TimeoutError) as error:
                message = str(error).strip().splitlines() or ["it does not answer"]
                raise RunsUnavailableError(f"PostgreSQL is not available: {message[0]}") from error

    async def _once(self, work: Callable[[_Connection], Awaitable[_T]]) -> _T:
        used_before = self._connection is not None
        try:
            async with asyncio.timeout(_TIMEOUT):
                if self._connection is None:
                    self._connection = await self._connect()
                async with self._connection.transaction():
                    return await work(self._connection)
        except (psycopg.OperationalError, TimeoutError) as error:
            await self._disconnect()
            if not used_before or isinstance(error, TimeoutError):
                raise
        except asyncio.CancelledError:
            await self._disconnect()  # in what state a query was broken off, nobody knows
            raise
        return await self._once(work)

    async def _connect(self) -> _Connection:
        connection = await connect_async(self._dsn(), autocommit=True, application_name="obs-hub runs")
        connection.row_factory = dict_row
        return connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


async def _enqueue(connection: _Connection, request: Request, supersede: bool) -> UUID:
    identity = uuid.uuid4()
    trace = request.trace
    # Whoever asks for a run waits for whoever does so at this moment.
    await connection.execute("LOCK TABLE run IN SHARE ROW EXCLUSIVE MODE")
    if supersede:
        await connection.execute(
            "UPDATE run SET state = 'superseded', finished_at = now(), superseded_by = %s"
            " WHERE kind = %s AND name = %s AND state = 'queued'",
            (identity, request.kind, request.name),
        )
    else:
        waiting = await connection.execute(
            "SELECT id FROM run WHERE kind = %s AND name = %s AND state = 'queued'", (request.kind, request.name)
        )
        if row := await waiting.fetchone():
            return UUID(str(row["id"]))
    await connection.execute(
        "INSERT INTO run (id, kind, name, state, trigger, trace_id, parent_span_id)"
        " VALUES (%s, %s, %s, 'queued', %s::jsonb, %s, %s)",
        (
            identity,
            request.kind,
            request.name,
            _json(request.trigger),
            trace and trace.trace_id,
            trace and trace.span_id,
        ),
    )
    return identity


def _run(row: Mapping[str, Any]) -> Run:
    return Run(**{**row, "state": RunState(row["state"])})


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(clean_json(dict(value)))
