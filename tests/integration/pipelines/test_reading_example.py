"""The example that ships: documents of the reading applications fill the dashboard "Reading Analytics"."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from exporters.timescale.config import TimescaleConfig
from gateway.assembly import Hub
from gateway.config import Config, load
from gateway.runs import RunState
from tests.support import grafana
from tests.support.databases import Database
from tests.support.grafana import GRAFANA, TimeRange, Values
from tests.support.hubs import running
from tests.support.mongo import Mongo, document
from tests.support.pipelines import run_once, service_of, stored

EXAMPLE = GRAFANA.parent / "pipelines" / "reading.yaml"
BOOK = {"title": "Middlemarch", "author": "George Eliot", "device": "tablet"}


def example(mongo: Mongo, database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The shipped configuration, as it is but for addresses and the names of databases."""
    monkeypatch.setenv("MONGO_URI", mongo.uri)
    text = EXAMPLE.read_text("utf-8")
    for port in ("4317", "4318", "8085"):
        assert text.count(f"127.0.0.1:{port}") == 1
        text = text.replace(f"127.0.0.1:{port}", "127.0.0.1:0")
    assert text.count("database: apps") == 1
    file = folder / "reading.yaml"
    file.write_text(text.replace("database: apps", f"database: {mongo.name}"))
    config = load(file)
    settings = config.exporters["timescale"].model_copy(
        update={"dsn": TimescaleConfig.model_validate({"dsn": database.dsn}).dsn}
    )
    return dataclasses.replace(config, exporters={"timescale": settings})


def documents() -> list[dict[str, Any]]:
    kinds: list[dict[str, Any]] = [
        {"event_type": "book.opened", "payload": BOOK},
        {"event_type": "reading.session_finished", "payload": {**BOOK, "duration_minutes": 25, "pages_read": 18}},
        {"event_type": "session_finished", "payload": {**BOOK, "duration_minutes": 5, "pages_read": 2}},
        {"event_type": "book.finished", "payload": BOOK},
        {"source": "cover-craft", "event_type": "cover_created", "payload": {**BOOK, "style": "woodcut"}},
        {"source": "shop", "event_type": "order.placed", "payload": {}},
    ]
    return [document(number, **changes) for number, changes in enumerate(kinds)]


async def test_the_example_runs_and_fills_its_dashboard(
    mongo: Mongo, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mongo.write(*documents())
    config = example(mongo, database, tmp_path, monkeypatch)
    async with running(Hub(config)) as hub:
        await run_once(service_of(hub))
        # Its schedule may have come first: then the run that was asked for found nothing; or it comes now.
        runs = await service_of(hub).runs.history("pipeline", "reading")
        run = max(runs, key=lambda each: each.counts.get("read", 0))
    assert (run.state, run.counts["processed"]) == (RunState.SUCCEEDED, 5)
    assert mongo.states() == {"processed": 5, "ingested": 1}
    assert stored(database) == 5

    dashboard = grafana.load(GRAFANA / "dashboards" / "reading.json")
    names = ["book.opened", "reading.session_finished", "book.finished", "cover.created"]
    chosen = {
        "service": Values(["reading", "cover-craft"], several=True),
        "event": Values(names, several=True),
    }
    found: dict[str, list[tuple[Any, ...]]] = {}
    for query in grafana.queries(dashboard, "rawSql"):
        text = grafana.expand_sql(grafana.interpolate(query.text, chosen), TimeRange.last(timedelta(days=1)))
        with database.connect() as connection:
            found[query.where.rpartition(" / ")[2]] = connection.execute(text.encode()).fetchall()
    assert all(found.values()), {title for title, rows in found.items() if not rows}
    assert found["Time read"] == [(30 * 60,)]
    assert found["Sessions"] == [(2,)]
    assert found["Pages"] == [(20,)]
    assert found["Books finished"] == [(1,)]
    assert found["By device"] == [("tablet", 30)]
