"""One gateway for the attacks of a module: whatever one of them breaks, the next will find broken."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.harness import VIEWS, Gateway, running_gateway
from tests.support.databases import Database


@pytest.fixture(scope="module")
def gateway(module_database: Database) -> Iterator[Gateway]:
    with running_gateway(module_database) as gateway:
        yield gateway
        for view in VIEWS:  # whatever was stored can be read
            gateway.database.run(f"SELECT * FROM {view}")
