from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.embedded import EmbeddedPostgres
from tests.integration.cli.processes import Hubs, hubs
from tests.support import clusters


@pytest.fixture
def hubs_to_start() -> Iterator[Hubs]:
    """Gateways that a test starts for itself."""
    with hubs(forked=True) as started:
        yield started


@pytest.fixture
def postgres() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that a test may do anything to."""
    directory = Path(tempfile.mkdtemp(prefix="obs-hub-test-"))
    directory.chmod(0o711)  # for PgBouncer, which is not root
    server = EmbeddedPostgres(directory / "postgres")
    try:
        clusters.place(server.directory)
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)
