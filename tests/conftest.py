"""What all tests share: real database servers, and how much Hypothesis tries."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psycopg
import pytest

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # as the command line does; read when grpc is imported

from gateway.embedded import EmbeddedPostgres
from tests.support.databases import Database, Server, fresh

TIMESCALE_VARIABLE = "OBSHUB_TEST_TIMESCALE_DSN"

_QUIET = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
hypothesis.settings.register_profile("default", deadline=None, max_examples=100, suppress_health_check=_QUIET)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=3_000, suppress_health_check=_QUIET)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def embedded_server() -> Iterator[Server]:
    """The embedded PostgreSQL, without the waiting for the disk that no test can see."""
    # Not under pytest's own directory: nobody else may enter that, and the server may run as another user.
    directory = Path(tempfile.mkdtemp(prefix="obs-hub-test-"))
    try:
        with EmbeddedPostgres(directory / "postgres") as postgres:
            with psycopg.connect(postgres.dsn, autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET fsync = off")
                connection.execute("SELECT pg_reload_conf()")
            yield Server("native", postgres.dsn)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def timescale_server() -> Server:
    """A server with TimescaleDB, where one is named."""
    dsn = os.environ.get(TIMESCALE_VARIABLE)
    if not dsn:
        pytest.skip(f"{TIMESCALE_VARIABLE} names no server with TimescaleDB")
    return Server("timescale", dsn)


@pytest.fixture(scope="session", params=["native", "timescale"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each layout of the store in turn: what holds for one must hold for the other."""
    name = {"native": "embedded_server", "timescale": "timescale_server"}[request.param]
    server: Server = request.getfixturevalue(name)
    return server


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    """An empty database, for one test."""
    with fresh(server) as database:
        yield database


@pytest.fixture(scope="module")
def module_database(server: Server) -> Iterator[Database]:
    """An empty database, for the tests of a module."""
    with fresh(server) as database:
        yield database


@pytest.fixture
def native_database(embedded_server: Server) -> Iterator[Database]:
    """An empty database of the embedded PostgreSQL, for what only concerns the native layout."""
    with fresh(embedded_server) as database:
        yield database


@pytest.fixture
def timescale_database(timescale_server: Server) -> Iterator[Database]:
    """An empty database of a server with TimescaleDB, for what only concerns that layout."""
    with fresh(timescale_server) as database:
        yield database
