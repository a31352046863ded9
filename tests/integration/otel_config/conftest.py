from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from gateway.component import Batch, Signal
from gateway.store.partitions import Partitions, interval_of
from tests.integration.cli.processes import config_text, free_port, hubs
from tests.integration.otel_config import lab
from tests.integration.test_self_telemetry import send
from tests.support.databases import Database, Server, fresh_store
from tests.support.stores import maintain, migrate, running_exporter
from tests.support.stores import store as commit
from tests.support.waiting import PATIENCE

LOKI_CONFIGURATION = Path(__file__).parents[3] / "otel-config/loki/config.yaml"
LOKI_VARIABLE = "OBSHUB_TEST_LOKI_URL"
SILENT_FOR = 120
"""How many minutes ago the last came that a silent store has."""
TELEMETRY = {"telemetry": {"metrics": {"enabled": True, "interval": "1s"}, "traces": {"enabled": False}}}


@pytest.fixture(scope="module")
def store(module_database: Database) -> Database:
    """A store with the telemetry of a lab, that of a hub and of the machine it runs on; all came in through the hub."""
    configuration = config_text(
        grpc=free_port(),  # known before it starts, because its host metrics are sent there
        timescale={"dsn": module_database.dsn},
        service=TELEMETRY,
        receivers={"hostmetrics": {"collection_interval": "1s"}},
    )
    with hubs(forked=True) as started:
        hub = started.start(configuration).until_ready()
        send(hub, "metrics", lab.metrics())
        send(hub, "logs", lab.journal())
        send(hub, "logs", lab.events())
        send(hub, "logs", lab.own_log())
        send(hub, "traces", lab.traces())
        # What only the hub itself sends, three times for the rates and the differences.
        for view, name in (("metrics", "system.cpu.load_average.1m"), ("histograms", "obs_hub.commit.duration")):
            wanted = f"SELECT count(DISTINCT time) >= 3 FROM {view} WHERE name = %s"
            hub.until(partial(module_database.value, wanted, (name,)))
        assert hub.stop() == 0
    module_database.run(
        "INSERT INTO run (id, kind, name, state, trigger, counts, started_at, finished_at, attempt, trace_id) VALUES"
        " (gen_random_uuid(), 'pipeline', 'reading', 'succeeded', '{}', '{\"done\": 3}', now(), now(), 1, %s)",
        [lab.TRACE],
    )
    have_it_an_hour_earlier_too(module_database)
    return module_database


def have_it_an_hour_earlier_too(database: Database) -> None:
    """Have rollups of what the hub and this machine told: of the minute and the hour under way there are none."""
    earlier = datetime.now(UTC) - timedelta(hours=1)
    present = migrate(database)
    with database.connect() as connection:
        own = (
            "SELECT e.id FROM series e JOIN resource r ON r.id = e.resource_id"
            " WHERE (r.service_name = 'obs-hub' AND r.attributes ->> 'service.instance.id' <> 'another')"
            f" OR r.host_name = '{socket.gethostname()}'"
        )
        whose = {
            "sample": f"series_id IN ({own})",
            "frame": f"set_id NOT IN (SELECT set_id FROM member WHERE series_id NOT IN ({own}))",
        }
        for table, which in whose.items():
            if present.native:
                Partitions(timedelta(days=1)).ensure(connection, table, [interval_of(earlier, timedelta(days=1))])
            columns = [
                row[0]
                for row in connection.execute(
                    "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0", [table]
                )
            ]
            other = {"time": "time - interval '1 hour'", "time_ns": "999"}
            shifted = [other.get(name, name) for name in columns]
            connection.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(shifted)} FROM {table}"
                f" WHERE {which}".encode()
            )
        connection.execute(
            "INSERT INTO rollup_pending SELECT DISTINCT date_trunc('minute', time) FROM number_point"
            " WHERE time_ns = 999 UNION SELECT minute FROM rollup_pending"
        )
    maintain(database)
    for table in whose:
        database.run(f"DELETE FROM {table} WHERE time_ns = 999")


def store_all(database: Database, *batches: Batch) -> None:
    async def go() -> None:
        async with running_exporter(database) as exporter:
            await commit(exporter, *batches)

    asyncio.run(go())
    maintain(database)


@pytest.fixture(scope="module")
def empty(server: Server) -> Iterator[Database]:
    """A store that never had any telemetry."""
    with fresh_store(server) as database:
        yield database


@pytest.fixture(scope="module")
def silent(server: Server) -> Iterator[Database]:
    """A store that got everything a lab sends, and nothing in the last two hours."""
    with fresh_store(server) as database:
        store_all(
            database,
            Batch.of(Signal.METRICS, lab.metrics(SILENT_FOR)),
            Batch.of(Signal.LOGS, lab.journal(SILENT_FOR)),
            Batch.of(Signal.LOGS, lab.events(SILENT_FOR)),
            Batch.of(Signal.TRACES, lab.traces(SILENT_FOR)),
        )
        yield database


@dataclass(frozen=True)
class Loki:
    """A Loki that holds the lab's journal."""

    url: str


@pytest.fixture(scope="module", params=["named", "ours"])
def loki(request: pytest.FixtureRequest) -> Iterator[Loki]:
    """The Loki that is named, and one with the project's configuration; each with the lab's journal, sent as OTLP."""
    if request.param == "named":
        url = os.environ.get(LOKI_VARIABLE, "").rstrip("/")
        if not url:
            pytest.skip(f"{LOKI_VARIABLE} names no Loki")
        yield filled(url)
        return
    if shutil.which("loki") is None:
        pytest.skip("there is no loki on PATH")
    port, grpc_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="obs-hub-loki-") as folder:
        options = [f"-config.file={LOKI_CONFIGURATION}", "-config.expand-env=true"]
        options += [f"-server.http-listen-port={port}", f"-server.grpc-listen-port={grpc_port}"]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(
                ["loki", *options], stdout=log, stderr=log, env={**os.environ, "LOKI_DATA": folder}
            )
        try:
            yield filled(f"http://127.0.0.1:{port}")
        finally:
            process.kill()
            process.wait()


def filled(url: str) -> Loki:
    """Send the journal as soon as Loki takes it."""
    request = urllib.request.Request(
        f"{url}/otlp/v1/logs", lab.journal(), {"Content-Type": "application/x-protobuf"}, method="POST"
    )
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            urllib.request.urlopen(request, timeout=PATIENCE).close()
            return Loki(url)
        except urllib.error.HTTPError as error:
            if error.code not in (500, 503) or time.monotonic() > deadline:  # those while it is starting
                pytest.fail(f"Loki refuses the journal: {error.read().decode(errors='replace')}")
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                pytest.fail(f"no Loki answers at {url}")
        time.sleep(0.5)
