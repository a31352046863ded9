"""Named pipelines and processors of a hub: over the wire, into a store, and once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import load
from tests.support.databases import Database
from tests.support.hubs import running_hub
from tests.support.telemetry import gauge, logs, spans

Write = Callable[[dict[str, Any], dict[str, Any]], Path]


@pytest.fixture
def write(tmp_path: Path, database: Database) -> Write:
    """Write a configuration with these processors and pipelines; `timescale` is the store, `loki` a stand-in."""

    def write_it(processors: dict[str, Any], pipelines: dict[str, Any], **exporters: Any) -> Path:
        path = tmp_path / "hub.yaml"
        grpc = {"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}}
        config = {
            "receivers": {"otlp": grpc, "otlp/second": grpc},
            "processors": processors,
            "exporters": {"timescale": {"dsn": database.dsn, "logs": "all"}, **exporters},
            "service": {
                "telemetry": {"metrics": {"enabled": False}, "traces": {"enabled": False}},
                "pipelines": pipelines,
            },
        }
        path.write_text(yaml.safe_dump(config))
        return path

    return write_it


def bodies(database: Database) -> list[str]:
    return [body for (body,) in database.run("SELECT body FROM logs ORDER BY time, body")]


def test_each_signal_goes_through_its_processors(write: Write, database: Database) -> None:
    path = write(
        {
            "redact": None,
            "filter": {"drop": ["severity < warn", "body contains 'noise'"]},
            "resource": {"attributes": [{"action": "upsert", "key": "site", "value": "home"}]},
            "attributes": {"actions": [{"action": "insert", "key": "by", "value": "hub"}]},
        },
        {
            "logs": {"receivers": ["otlp"], "processors": ["filter", "redact"], "exporters": ["timescale"]},
            "metrics": {"receivers": ["otlp"], "processors": ["resource", "attributes"], "exporters": ["timescale"]},
            "traces": {"receivers": ["otlp"], "processors": ["redact"], "exporters": ["timescale"]},
        },
    )
    with running_hub(load(path)) as client:
        outcome = client.send("logs", logs("noise", "mail of bob@example.com").payload)
        assert (outcome.rejected_log_records, outcome.error_message) == (0, "")
        client.send("logs", logs("noise").payload)
        client.send("metrics", gauge([1.0, 2.0]).payload)
        client.send("traces", spans("GET /users/bob@example.com").payload)
    assert bodies(database) == ["mail of [redacted:email]"]
    assert database.run("SELECT name FROM span") == [("GET /users/[redacted:email]",)]
    assert database.run("SELECT DISTINCT resource ->> 'site', attributes ->> 'by' FROM metrics") == [("home", "hub")]


def test_a_repetition_is_known_again_after_a_restart_with_other_processors(write: Write, database: Database) -> None:
    batch = logs("mail of bob@example.com", "text")
    for settings in ({}, {"detect": ["ip"]}, {"patterns": {"own": "text"}}):
        pipelines = {"logs": {"receivers": ["otlp"], "processors": ["redact"], "exporters": ["timescale"]}}
        with running_hub(load(write({"redact": settings}, pipelines))) as client:
            for _ in range(2):
                client.send("logs", batch.payload)
    assert bodies(database) == ["mail of [redacted:email]", "text"]


def test_two_pipelines_of_a_signal_store_what_each_lets_through(write: Write, database: Database) -> None:
    pipelines = {
        "logs": {"receivers": ["otlp"], "processors": ["filter/rest"], "exporters": ["timescale"]},
        "logs/audit": {"receivers": ["otlp"], "processors": ["filter/audit"], "exporters": ["timescale"]},
    }
    processors = {
        "filter/audit": {"keep": ["body contains 'audit'"]},
        "filter/rest": {"drop": ["body contains 'audit'"]},
    }
    batch = logs("audit 1", "text", "audit 2")
    with running_hub(load(write(processors, pipelines))) as client:
        for _ in range(2):
            client.send("logs", batch.payload)
    assert sorted(bodies(database)) == ["audit 1", "audit 2", "text"]
