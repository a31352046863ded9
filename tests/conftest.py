"""What all tests share: real database servers, and how much Hypothesis tries."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

if sys.dont_write_bytecode and sys.prefix != sys.base_prefix:
    # Every process of the run, and every hub and command that it starts, would compile all there is anew: most of what
    # these cost. In the virtual environment, whoever asked for nothing to be written beside the sources has that. This
    # comes before Hypothesis, whose modules pytest compiles in a way of its own.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as good as `python -B`
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(Path(sys.prefix) / "pycache"))
    sys.dont_write_bytecode, sys.pycache_prefix = False, os.environ["PYTHONPYCACHEPREFIX"]

import hypothesis
import pytest

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # as the command line does; read when grpc is imported

from gateway.embedded import EmbeddedPostgres
from tests.support import clusters, shared
from tests.support.databases import Database, Server, drop_template, fresh, fresh_store
from tests.support.logged import Logged, caught, logging_taken_back
from tests.support.unproven import unproven

TIMESCALE_VARIABLE = "OBSHUB_TEST_TIMESCALE_DSN"
POSTGRESQL_VARIABLE = "OBSHUB_TEST_POSTGRESQL_DSN"

_QUIET = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
hypothesis.settings.register_profile("default", deadline=None, max_examples=100, suppress_health_check=_QUIET)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=20, suppress_health_check=_QUIET)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=3_000, suppress_health_check=_QUIET)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_xdist_auto_num_workers() -> int:
    """How many processes ``--numprocesses auto`` means: many tests wait most of the time, so three for each core."""
    return 3 * len(os.sched_getaffinity(0))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their parameter: often they hold the time, and all processes must have the same tests."""
    return argname if isinstance(val, bytes) else None


def pytest_configure(config: pytest.Config) -> None:
    """Share a folder among the processes of this run, in memory where there is enough of it."""
    shared.use_memory()
    if (folder := shared.share()) is not None:
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Find all tests without looking for garbage among what is made: it stays, and that took a seventh of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the cheap tests first."""
    order = {kind: number for number, kind in enumerate(("unit", "integration", "browser", "hostile", "faults"))}
    items.sort(key=lambda item: order[item.path.relative_to(Path(__file__).parent).parts[0]])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what was not proven."""
    skipped = [report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.getreports("skipped")]
    if lines := unproven(skipped):
        terminalreporter.section("NOT PROVEN BY THIS RUN", "!", red=True, bold=True)
        for line in lines:
            terminalreporter.line(line, red=True)


@pytest.fixture(scope="session")
def embedded_server() -> Iterator[Server]:
    """The embedded PostgreSQL, without the waiting for the disk that no test can see. Each process has its own.

    Where a server is named, it stands in: other versions of PostgreSQL are tried so.
    """
    if dsn := os.environ.get(POSTGRESQL_VARIABLE):
        server = Server("native", dsn)
        yield server
        drop_template(server)
        return
    directory = Path(tempfile.mkdtemp(prefix="obs-hub-test-"))
    directory.chmod(0o711)  # a PgBouncer of another user passes through
    try:
        clusters.place(directory / "postgres")
        with EmbeddedPostgres(directory / "postgres") as postgres:
            yield Server("native", postgres.dsn)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def timescale_server() -> Iterator[Server]:
    """A server with TimescaleDB, where one is named."""
    dsn = os.environ.get(TIMESCALE_VARIABLE)
    if not dsn:
        pytest.skip(f"{TIMESCALE_VARIABLE} names no server with TimescaleDB")
    server = Server("timescale", dsn)
    yield server
    drop_template(server)


@pytest.fixture(scope="session", params=["native", "timescale"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each layout of the store in turn: what holds for one must hold for the other."""
    name = {"native": "embedded_server", "timescale": "timescale_server"}[request.param]
    server: Server = request.getfixturevalue(name)
    return server


def made_for(request: pytest.FixtureRequest, server: Server) -> AbstractContextManager[Database]:
    """A database with a store, or an empty one where the test, or its module, is marked with ``empty_database``."""
    return (fresh if request.node.get_closest_marker("empty_database") else fresh_store)(server)


@pytest.fixture
def database(request: pytest.FixtureRequest, server: Server) -> Iterator[Database]:
    """A database with a store, for one test."""
    with made_for(request, server) as database:
        yield database


@pytest.fixture(scope="module")
def module_database(request: pytest.FixtureRequest, server: Server) -> Iterator[Database]:
    """A database with a store, for the tests of a module."""
    with made_for(request, server) as database:
        yield database


@pytest.fixture
def native_database(request: pytest.FixtureRequest, embedded_server: Server) -> Iterator[Database]:
    """A database with a store on the embedded PostgreSQL, for what only concerns the native layout."""
    with made_for(request, embedded_server) as database:
        yield database


@pytest.fixture
def timescale_database(request: pytest.FixtureRequest, timescale_server: Server) -> Iterator[Database]:
    """A database with a store on a server with TimescaleDB, for what only concerns that layout."""
    with made_for(request, timescale_server) as database:
        yield database


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    with logging_taken_back():
        yield


@pytest.fixture
def logged() -> Iterator[Logged]:
    """What the test makes this process log."""
    with caught() as lines:
        yield lines
