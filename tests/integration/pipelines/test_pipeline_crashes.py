"""A run that ends between any two of its steps: nothing is lost, nothing comes twice."""

from __future__ import annotations

import pytest

from gateway.runs import RunState
from receivers.mongodb import collection, reading
from tests.support.databases import Database
from tests.support.mongo import Mongo, document
from tests.support.pipelines import pipeline, pipelines, run_once, stored

STEPS = ["pipeline before sending", "pipeline after acknowledgement", "pipeline after marking"]


class CrashError(Exception):
    """The end of the process, as far as one process can tell itself."""


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("batch", [0, 1])
async def test_broken_off_at_each_step(
    mongo: Mongo, database: Database, monkeypatch: pytest.MonkeyPatch, step: str, batch: int
) -> None:
    mongo.write(*map(document, range(15)))
    left = batch + 1

    def crash(name: str) -> None:
        nonlocal left
        if name == step:
            left -= 1
            if left == 0:
                raise CrashError(name)

    monkeypatch.setattr(reading, "crashpoint", crash)
    async with pipelines(database, {"reading": pipeline(mongo, batch={"max_documents": 5})}) as service:
        run = await run_once(service)
    assert (run.state, run.error) == (RunState.FAILED, f"CrashError: {step}")
    done = batch + (step == "pipeline after marking")
    assert mongo.states().get("processed", 0) == 5 * done
    # While a batch is marked, the next one is sent.
    assert stored(database) == 5 * (done + (step != "pipeline before sending"))

    monkeypatch.undo()
    async with pipelines(database, {"reading": pipeline(mongo, batch={"max_documents": 4})}) as service:
        run = await run_once(service)
    assert run.state is RunState.SUCCEEDED
    assert mongo.states() == {"processed": 15}
    assert stored(database) == 15


async def test_marks_that_never_arrived_are_made_up_for(
    mongo: Mongo, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    mongo.write(*map(document, range(7)))
    monkeypatch.setattr(collection, "_MARK_PAUSES", (0.01,))
    away = 3
    write = collection.Collection._write

    def fail(self: collection.Collection, updates: list[object]) -> object:
        nonlocal away
        away -= 1
        if away >= 0:
            from pymongo.errors import AutoReconnect

            raise AutoReconnect(f"lost {mongo.uri}")
        return write(self, updates)

    monkeypatch.setattr(collection.Collection, "_write", fail)
    async with pipelines(database, {"reading": pipeline(mongo)}) as service:
        first = await run_once(service)
        assert first.state is RunState.FAILED
        assert (first.error or "").startswith("MongoDB: lost mongodb://")
        assert "pa%24%24word" not in (first.error or "")
        assert mongo.states() == {"ingested": 7}
        second = await run_once(service)  # the first of its writes fails as well
    assert second.counts["processed"] == 7
    assert mongo.states() == {"processed": 7}
    assert stored(database) == 7


async def test_a_document_that_takes_no_more_fields_is_marked_by_its_status_alone(
    mongo: Mongo, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = mongo.write(*map(document, range(3)))
    write = collection.Collection._write

    def refuse(
        self: collection.Collection, updates: list[tuple[collection.Mark, dict[str, dict[str, object]]]]
    ) -> object:
        full = [each for each in updates if each[0].id == ids[1] and len(each[1]["$set"]) > 1]
        refused = write(self, [each for each in updates if each not in full]) if len(full) < len(updates) else []
        return [*refused, *((mark, "Document failed validation") for mark, _ in full)]

    monkeypatch.setattr(collection.Collection, "_write", refuse)
    async with pipelines(database, {"reading": pipeline(mongo)}) as service:
        assert (await run_once(service)).state is RunState.SUCCEEDED
    assert mongo.states() == {"processed": 3}
    assert "processed_at" not in mongo.events.find_one({"_id": ids[1]})
