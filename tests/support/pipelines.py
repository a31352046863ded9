"""A hub with pipelines, in this process."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from exporters.timescale.config import TimescaleConfig
from gateway.assembly import Hub
from gateway.extensions.document_pipelines.config import PipelinesConfig
from gateway.extensions.document_pipelines.service import PipelinesService
from gateway.runs import Run
from receivers.otlp.config import OtlpReceiverConfig
from tests.support.databases import Database
from tests.support.hubs import running, store_config
from tests.support.mongo import Mongo
from tests.support.waiting import PATIENCE

ASKED_ONLY = {"every": None, "watch": False}
QUICK = {"initial_interval": "20ms", "max_interval": "100ms"}

OURS = "attributes ->> 'log.record.uid' IS NOT NULL"
"""What the pipelines' events have, and those that the hub sends of itself have not."""


def stored(database: Database) -> int:
    """How many events of documents the store has."""
    count: int = database.value(f"SELECT count(*) FROM events WHERE {OURS}")
    return count


def pipeline(mongo: Mongo, **settings: Any) -> dict[str, Any]:
    """The settings of a pipeline that runs only when asked to."""
    return {"mongodb": mongo.settings, "schedule": ASKED_ONLY, "retry_on_failure": QUICK, **settings}


def make_hub(
    database: Database, pipelines: dict[str, Any], *, data_dir: Path | None = None, port: int = 0, **more: Any
) -> Hub:
    """A hub that stores into a database, and whose pipelines send to itself unless ``more`` says otherwise."""
    config = store_config(TimescaleConfig.model_validate({"dsn": database.dsn}))
    grpc = {"endpoint": f"127.0.0.1:{port}", "max_recv_msg_size": "16MiB"}  # less than a document may have
    config.receivers["otlp"] = OtlpReceiverConfig.model_validate({"protocols": {"grpc": grpc}})
    config.extensions["pipelines"] = PipelinesConfig.model_validate({"pipelines": pipelines, **more})
    service = config.service.model_copy(update={"extensions": ["pipelines"]})
    return Hub(dataclasses.replace(config, service=service), data_dir=data_dir)


def service_of(hub: Hub) -> PipelinesService:
    service = hub._services["pipelines"]
    assert isinstance(service, PipelinesService)
    return service


@asynccontextmanager
async def pipelines(database: Database, settings: dict[str, Any], **more: Any) -> AsyncIterator[PipelinesService]:
    """Run a hub with these pipelines for the length of a block."""
    async with running(make_hub(database, settings, **more)) as hub:
        yield service_of(hub)


async def ended(service: PipelinesService, identity: UUID) -> Run:
    """Wait for the end of a run."""
    async with asyncio.timeout(PATIENCE):
        while True:
            run = await service.runs.get(identity)
            assert run is not None
            if run.finished:
                return run
            await asyncio.sleep(0.02)


async def run_once(service: PipelinesService, name: str = "reading") -> Run:
    """Ask for a run and wait for its end."""
    return await ended(service, await service.ask(name, {"source": "test"}))
