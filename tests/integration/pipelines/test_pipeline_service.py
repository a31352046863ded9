"""What the service does besides running: it listens for changes, tells about itself, takes rotated secrets, and
answers over HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import mongomock
import pytest
from litestar import Litestar, Router

from exporters.timescale.config import TimescaleConfig
from gateway.assembly import Hub
from gateway.component import Consumer
from gateway.extensions.api.problems import ProblemError, on_http_exception
from gateway.extensions.document_pipelines.config import PipelinesConfig
from gateway.extensions.document_pipelines.factory import create
from gateway.extensions.document_pipelines.service import PipelinesService
from gateway.runs import Request, Runs, RunState
from receivers.mongodb.collection import Collection
from tests.support import mongo as mongos
from tests.support.consumers import Collecting
from tests.support.databases import Database
from tests.support.hubs import running, store_config
from tests.support.mongo import Mongo, document
from tests.support.operations import Told
from tests.support.pipelines import ended, pipeline, pipelines, run_once, stored
from tests.support.waiting import PATIENCE


@pytest.fixture
def mongo() -> Iterator[Mongo]:
    with mongos.database(real=False) as database:
        yield database


class View:
    """A hub as the service sees it."""

    def __init__(self, dsn: str | None, told: Told, consumer: Consumer) -> None:
        self.dsn, self.operations, self.consumer = dsn, told.operations, consumer
        self.data_dir: Path | None = None


@asynccontextmanager
async def told_pipelines(database: Database, told: Told, **settings: Any) -> AsyncIterator[PipelinesService]:
    """Pipelines beside a hub that takes what they send, and not what they tell about themselves."""
    async with running(Hub(store_config(TimescaleConfig.model_validate({"dsn": database.dsn})))) as hub:
        view = View(database.dsn, told, hub._pipeline)
        service = create("pipelines", PipelinesConfig.model_validate({"pipelines": settings}), view)
        await service.start()
        try:
            yield service
        finally:
            await service.stop(0)


async def test_a_run_is_one_trace_and_its_sends_are_spans_of_it(mongo: Mongo, database: Database) -> None:
    told = Told()
    mongo.write(*map(document, range(5)), document(event_type=""))
    async with told_pipelines(database, told, reading=pipeline(mongo, batch={"max_documents": 3})) as service:
        with told.operations.tracer.start_as_current_span("asked") as asking:
            run = await ended(service, await service.ask("reading", {}, asking))
    whole = told.span("pipeline.run")
    assert {span.context.trace_id for span in told.spans} == {asking.get_span_context().trace_id}
    sends = [span for span in told.spans if span.name == "pipeline.send"]
    assert [span.attributes["obs_hub.pipeline.documents"] for span in sends] == [3, 2]
    for name in ("pipeline.read", "pipeline.send", "pipeline.mark"):
        of_it = [span for span in told.spans if span.name == name]
        assert of_it
        assert {span.parent.span_id for span in of_it} == {whole.context.span_id}
    mark = next(span for span in told.spans if span.name == "pipeline.mark")
    assert mark.attributes["db.system.name"] == "mongodb"
    assert mark.attributes["db.operation.name"] == "bulkWrite"
    assert told.metric("obs_hub.pipeline.documents") == {("reading", "processed"): 5, ("reading", "failed"): 1}
    assert told.event("pipeline.run.finished").attributes["obs_hub.run.id"] == str(run.id)


async def test_progress_and_history_are_in_the_store(mongo: Mongo, database: Database) -> None:
    mongo.write(*map(document, range(5)), document(event_type=None))
    async with pipelines(database, {"reading": pipeline(mongo)}) as service:
        run = await run_once(service)
        (kept,) = await service.runs.history("pipeline", "reading")
    assert kept == replace(run, output="")
    assert run.output.splitlines()[0] == "6 documents to read"
    assert "6 of 6 documents read, 5 processed, 1 failed" in run.output
    assert run.started_at is not None
    assert run.finished_at is not None
    assert run.result["collection"] == f"{mongo.name}.events"


async def test_runs_of_other_kinds_are_not_pruned(mongo: Mongo, database: Database) -> None:
    async with pipelines(database, {"reading": pipeline(mongo)}) as service:
        for _ in range(2):
            await run_once(service)
        other = await service.runs.enqueue(Request("gitops", "home", {}))
        database.run(
            "UPDATE run SET state = 'failed', finished_at = now() - interval '40 days' WHERE id = %s", (other,)
        )
        newer = await service.runs.enqueue(Request("gitops", "home", {}))
        database.run("UPDATE run SET state = 'failed', finished_at = now() WHERE id = %s", (newer,))
        database.run("UPDATE run SET finished_at = finished_at - interval '40 days' WHERE kind = 'pipeline'")
        assert await service.runs.prune(timedelta(days=30), "pipeline") == 1
    assert database.value("SELECT count(*) FROM run WHERE kind = 'gitops'") == 2


class Stream:
    """A change stream that says what it is told to."""

    alive = True

    def __init__(self, changes: list[dict[str, Any]]) -> None:
        self._changes = changes

    def try_next(self) -> Any:
        return self._changes.pop() if self._changes else None

    def close(self) -> None:
        self.alive = False


async def test_where_there_are_change_streams_documents_are_read_when_they_are_written(
    mongo: Mongo, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: list[dict[str, Any]] = []

    def watch(*_: Any, **__: Any) -> Stream:
        return Stream(changes)

    monkeypatch.setattr(mongomock.collection.Collection, "watch", watch, raising=False)
    schedule = {"every": None, "watch": True, "at_most_every": "0s"}
    async with pipelines(database, {"reading": pipeline(mongo, schedule=schedule)}):
        for number in range(1, 3):
            mongo.write(document(number))
            changes.append({"_id": number})
            async with asyncio.timeout(PATIENCE):
                while mongo.states() != {"processed": number}:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.02)
    assert stored(database) == 2


async def test_a_rotated_connection_string_is_used_from_then_on(mongo: Mongo, database: Database) -> None:
    mongo.write(document())
    wrong = pipeline(mongo, mongodb={**mongo.settings, "uri": "mongodb://apps:old@stand-in.invalid/?w=nonsense&x"})
    async with pipelines(database, {"reading": wrong}) as service:
        service._sources["reading"]._client = FailingClient()
        run = await run_once(service)
        assert run.state is RunState.FAILED
        assert service.reconfigure(PipelinesConfig.model_validate({"pipelines": {"reading": pipeline(mongo)}}))
        assert (await run_once(service)).counts["processed"] == 1
        assert not service.reconfigure(None)


class FailingClient:
    """A client whose password is no longer right."""

    def __getitem__(self, _: str) -> Any:
        from pymongo.errors import OperationFailure

        raise OperationFailure("Authentication failed.", 18)

    def close(self) -> None:
        """Nothing to release."""


async def test_a_service_without_a_store_is_not_made(mongo: Mongo) -> None:
    config = PipelinesConfig.model_validate({"pipelines": {"reading": pipeline(mongo)}})
    with pytest.raises(ValueError, match="use an exporter of type timescale"):
        create("pipelines", config, View(None, Told(), Collecting()))


async def test_the_routes(mongo: Mongo, database: Database) -> None:
    mongo.write(*map(document, range(3)))
    async with pipelines(database, {"reading": pipeline(mongo)}) as service:
        app = Litestar(
            [Router("/api/v1", route_handlers=service.routers())],
            exception_handlers={ProblemError: on_http_exception},
            logging_config=None,
        )
        # In this event loop, which is the service's.
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub") as client:
            (listed,) = (await client.get("/api/v1/pipelines")).json()["pipelines"]
            assert listed == {
                "name": "reading",
                "database": mongo.name,
                "collection": "events",
                "every": None,
                "watch": False,
                "last_run": None,
            }
            asked = await client.post("/api/v1/pipelines/reading/runs")
            assert asked.status_code == 202
            identity = asked.json()["run_id"]
            await ended(service, UUID(identity))
            run = (await client.get(f"/api/v1/pipelines/runs/{identity}")).json()
            assert (run["state"], run["counts"]["processed"], run["error"]) == ("succeeded", 3, None)
            assert "3 of 3 documents read" in run["output"]
            (only,) = (await client.get("/api/v1/pipelines/runs", params={"name": "reading"})).json()["runs"]
            assert only["id"] == identity
            assert (await client.get("/api/v1/pipelines")).json()["pipelines"][0]["last_run"]["id"] == identity
            unknown = await client.post("/api/v1/pipelines/writing/runs")
            assert unknown.status_code == 404
            assert "configured: reading" in unknown.json()["detail"]
            assert (await client.get(f"/api/v1/pipelines/runs/{uuid4()}")).status_code == 404
            database.allow_connections(False)
            try:
                assert (await client.post("/api/v1/pipelines/reading/runs")).status_code == 503
            finally:
                database.allow_connections(True)


async def test_a_run_that_its_hub_left_is_resumed(mongo: Mongo, database: Database) -> None:
    mongo.write(*map(document, range(3)))
    async with pipelines(database, {"reading": pipeline(mongo)}) as service:
        await run_once(service)  # the store has its tables
    gone = Runs(database.dsn, "gone")
    mongo.write(document(7))
    identity = await gone.enqueue(Request("pipeline", "reading", {}))
    claimed = await gone.claim("pipeline", ["reading"])
    assert claimed is not None
    await gone.close()
    database.run("UPDATE run SET heartbeat_at = now() - interval '2 minutes' WHERE id = %s", (identity,))
    async with pipelines(database, {"reading": pipeline(mongo)}) as service:
        run = await ended(service, identity)
    assert (run.state, run.attempt, run.counts["processed"]) == (RunState.SUCCEEDED, 2, 1)
    assert stored(database) == 4


async def test_a_stop_does_not_wait_for_a_server_that_hangs(
    mongo: Mongo, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, never = threading.Event(), threading.Event()

    def hang(*_: Any) -> None:
        hung.set()
        never.wait()

    monkeypatch.setattr(Collection, "mark", hang)
    monkeypatch.setattr(Collection, "close", hang)
    monkeypatch.setattr("receivers.mongodb.source._CLOSE_SECONDS", 0.1)
    mongo.write(document(1))
    async with asyncio.timeout(PATIENCE), told_pipelines(database, Told(), reading=pipeline(mongo)) as service:
        await service.ask("reading", {})
        await asyncio.to_thread(hung.wait)
