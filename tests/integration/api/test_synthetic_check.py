"""The synthetic check against a store that keeps it waiting."""

from __future__ import annotations

import time

import pytest

from gateway.extensions.api import synthetic
from gateway.synthetic import look_up
from tests.support.databases import Database
from tests.support.stores import migrate


async def test_a_store_that_does_not_answer_is_not_waited_for(
    native_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while a migration holds its tables."""
    migrate(native_database)
    monkeypatch.setattr(synthetic, "_LAST_LOOK", 0.5)
    with native_database.connect() as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE sample")
        look = look_up("metrics", "mark", time.time_ns())
        assert await synthetic._visible(native_database.dsn, look, time.perf_counter()) is None
