from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from gateway.runs import worker
from tests.support import mongo as mongos
from tests.support.databases import Database
from tests.support.mongo import Mongo


@pytest.fixture(params=["stand-in", "server"])
def mongo(request: pytest.FixtureRequest) -> Iterator[Mongo]:
    """A database to read: mongomock's, which stands in by default, and a real server's where one is named."""
    if request.param == "server" and not os.environ.get(mongos.VARIABLE):
        pytest.skip(f"{mongos.VARIABLE} names no server that speaks MongoDB's protocol")
    with mongos.database(real=request.param == "server") as database:
        yield database


@pytest.fixture
def database(native_database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setattr(worker, "_POLL", 0.1)
    monkeypatch.setattr(worker, "_HEARTBEAT", 0.1)
    return native_database
