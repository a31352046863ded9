"""Starting, stopping and dying: whatever happens to the processes, what was acknowledged is in the store once."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import psycopg
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from gateway.data_paths import spool_directory
from gateway.embedded import EmbeddedPostgres
from gateway.pipeline.spool import status
from tests.integration.cli.processes import HubProcess, Hubs, config_text, free_port, hubs, named, until
from tests.support import clusters
from tests.support.waiting import PATIENCE

EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
NO_SPOOL: dict[str, object] = {"spool": {"enabled": False}}


@pytest.fixture
def start() -> Iterator[Hubs]:
    """Starts hubs, and ends them after the test."""
    with hubs(forked=True) as started:
        yield started


def request(body: str) -> bytes:
    """One log record. The same body makes the same bytes, as when a client tries again."""
    logs = ExportLogsServiceRequest()
    resource = logs.resource_logs.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "load"
    record = resource.scope_logs.add().log_records.add(time_unix_nano=BEGAN)
    record.body.string_value = body
    return logs.SerializeToString()


BEGAN = time.time_ns()


class Load:
    """Clients that send one unique record after another, each on a connection of its own, until they are refused."""

    def __init__(self, clients: int = 4, records: int = 3_000) -> None:
        self.acknowledged: set[str] = set()
        self.refused: dict[str, grpc.StatusCode] = {}
        self._clients = clients
        self._records = records
        self._threads: list[threading.Thread] = []

    @property
    def sent(self) -> set[str]:
        return self.acknowledged | set(self.refused)

    def begin(self, endpoint: str, name: str = "load") -> Load:
        """Begin to send. Each client ends with its first refusal, or after its share of the records."""
        for client in range(self._clients):
            bodies = [f"{name}-{client}-{number}" for number in range(self._records // self._clients)]
            thread = threading.Thread(target=self._send, args=(endpoint, bodies), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def end(self) -> Load:
        """Wait until every client has ended."""
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a client was never answered"
        return self

    def begin_and_end(self, endpoint: str, name: str) -> Load:
        return self.begin(endpoint, name).end()

    def send_refused_again(self, endpoint: str) -> None:
        """Do what a client does with what it was not told to be stored."""
        with channel_to(endpoint) as channel:
            for body in list(self.refused):
                export(channel, body)
                del self.refused[body]
                self.acknowledged.add(body)

    def _send(self, endpoint: str, bodies: list[str]) -> None:
        with channel_to(endpoint) as channel:
            for body in bodies:
                try:
                    export(channel, body)
                except grpc.RpcError as error:
                    self.refused[body] = error.code()
                    return
                self.acknowledged.add(body)


@contextmanager
def channel_to(endpoint: str) -> Iterator[grpc.Channel]:
    """A connection of its own: gRPC shares one among all channels to an address, unless told otherwise."""
    with grpc.insecure_channel(endpoint, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


def export(channel: grpc.Channel, body: str) -> None:
    """Send one record. Raises `grpc.RpcError`."""
    call: Any = channel.unary_unary(EXPORT)
    call(request(body), timeout=PATIENCE)


def stored(dsn: str) -> Counter[str]:
    """How often each record of the load is in the store."""
    with psycopg.connect(dsn) as connection:
        return Counter(
            dict(connection.execute("SELECT body, count(*) FROM logs WHERE service_name = 'load' GROUP BY body"))
        )


def assert_stored_once(hub: HubProcess, bodies: set[str]) -> None:
    """Every record is there, be it after the spool was replayed, and none of all there are is there twice."""

    def all_there() -> bool:
        try:
            return bodies <= stored(hub.dsn).keys()
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
            return False  # the database, or the schema in it, is not there yet

    hub.until(all_there)
    assert set(stored(hub.dsn).values()) <= {1}


def is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def workers_of(hub: HubProcess, port: int) -> set[int]:
    """The worker processes that listen on a port."""
    found = set()
    for child in hub.workers:
        try:
            if any(one.laddr.port == port and one.status == "LISTEN" for one in child.net_connections("inet")):
                found.add(child.pid)
        except psutil.Error:
            continue
    return found


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# -- told to stop ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_stopped_under_load_it_keeps_what_it_acknowledged_and_leaves_nothing_behind(
    start: Hubs, number: signal.Signals
) -> None:
    ports = {"grpc": free_port(), "http": free_port()}
    hub = start.start(config_text(grpc=ports["grpc"], http=ports["http"])).until_ready()
    postgres = hub.postgres
    assert postgres is not None
    load = Load().begin(hub.grpc)
    hub.until(lambda: len(load.acknowledged) > 50)
    hub.signal(number)
    assert hub.wait() == 0, hub.stderr
    load.end()
    assert load.refused, "the load ended before the hub did"
    assert set(load.refused.values()) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert "Traceback" not in hub.stderr
    assert "the time to finish is over" not in hub.stderr
    assert has_ended(postgres.pid)
    assert not (hub.data_dir / "postgres/data/postmaster.pid").exists()
    assert all(map(is_free, ports.values()))

    again = start.start(config_text(grpc=ports["grpc"], http=ports["http"])).until_ready()
    assert_stored_once(again, load.acknowledged)
    load.send_refused_again(again.grpc)
    assert_stored_once(again, load.sent)


@pytest.mark.parametrize("moment", ["postgres", "postgres/data", "postgres/data/postmaster.pid"])
def test_stopped_while_it_starts_it_ends_cleanly_and_can_start_again(start: Hubs, moment: str) -> None:
    hub = start.start(config_text(), first=True)
    hub.until((hub.data_dir / moment).exists)
    hub.signal(signal.SIGTERM)
    assert hub.wait() == 0, hub.stderr
    assert "Traceback" not in hub.stderr
    assert hub.postgres is None
    assert not list((hub.data_dir / "postgres").glob("initdb-*"))
    assert start.start(config_text(), first=True).until_ready().stop() == 0


def test_a_second_signal_does_not_disturb_the_stop(start: Hubs) -> None:
    hub = start.start(config_text()).until_ready()
    load = Load().begin(hub.grpc)
    hub.until(lambda: len(load.acknowledged) > 10)
    for _ in range(3):
        hub.signal(signal.SIGTERM)
    assert hub.wait() == 0, hub.stderr
    assert hub.postgres is None
    assert_stored_once(start.start(config_text()).until_ready(), load.end().acknowledged)


# -- killed ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("postgres_too", [False, True], ids=["hub", "hub-and-postgres"])
def test_killed_under_load_it_has_what_it_acknowledged_when_it_is_started_again(
    start: Hubs, postgres_too: bool
) -> None:
    hub = start.start(config_text()).until_ready()
    postgres = hub.postgres
    assert postgres is not None
    load = Load().begin(hub.grpc)
    hub.until(lambda: len(load.acknowledged) > 50)
    hub.process.kill()
    hub.wait()
    if postgres_too:
        postgres.kill()
        postgres.wait(PATIENCE)
    load.end()

    again = start.start(config_text()).until_ready()
    assert again.postgres is not None
    assert (again.postgres.pid == postgres.pid) is not postgres_too
    assert_stored_once(again, load.acknowledged)
    load.send_refused_again(again.grpc)
    assert_stored_once(again, load.sent)
    assert again.stop() == 0
    assert again.postgres is None, "a server that was taken over is stopped like any other"


def test_the_embedded_postgres_is_started_again_when_it_dies(start: Hubs) -> None:
    hub = start.start(config_text()).until_ready()
    postgres = hub.postgres
    assert postgres is not None
    postgres.kill()
    hub.until(lambda: (new := hub.postgres) is not None and new.pid != postgres.pid)
    load = Load(records=20).begin_and_end(hub.grpc, "after")
    assert (len(load.acknowledged), load.refused) == (20, {})
    assert_stored_once(hub, load.acknowledged)


# -- workers ---------------------------------------------------------------------------------------------------


@pytest.fixture
def two_workers(start: Hubs) -> tuple[HubProcess, int]:
    """A hub with two workers, and the port that they share."""
    port = free_port()
    hub = start.start(config_text(grpc=port, http=free_port()), "--workers", "2").until_ready()
    hub.until(lambda: len(workers_of(hub, port)) == 2)
    return hub, port


def test_workers_share_the_port_and_each_record_is_stored_once(two_workers: tuple[HubProcess, int]) -> None:
    hub, port = two_workers
    load = Load(clients=8, records=400).begin_and_end(f"127.0.0.1:{port}", "shared")
    assert (len(load.acknowledged), load.refused) == (400, {})
    assert_stored_once(hub, load.acknowledged)


def test_a_worker_that_dies_is_replaced(two_workers: tuple[HubProcess, int]) -> None:
    hub, port = two_workers
    before = workers_of(hub, port)
    load = Load(clients=8).begin(f"127.0.0.1:{port}")
    hub.until(lambda: len(load.acknowledged) > 50)
    victim = before.pop()
    os.kill(victim, signal.SIGKILL)
    hub.until(lambda: len(workers_of(hub, port) - {victim}) == 2)
    assert before < workers_of(hub, port)
    load.end()
    load.send_refused_again(f"127.0.0.1:{port}")
    assert_stored_once(hub, load.sent)


def test_a_stop_ends_all_workers(two_workers: tuple[HubProcess, int], start: Hubs) -> None:
    hub, port = two_workers
    workers = workers_of(hub, port)
    load = Load(clients=8).begin(f"127.0.0.1:{port}")
    hub.until(lambda: len(load.acknowledged) > 50)
    assert hub.stop() == 0, hub.stderr
    load.end()
    assert all(map(has_ended, workers))
    assert hub.postgres is None
    assert is_free(port)
    assert "Traceback" not in hub.stderr
    # One process instead of two: it finds what either of them may have left in its spool.
    assert_stored_once(start.start(config_text()).until_ready(), load.acknowledged)


def test_workers_end_when_their_parent_is_killed(two_workers: tuple[HubProcess, int], start: Hubs) -> None:
    hub, port = two_workers
    workers = workers_of(hub, port)
    load = Load(clients=8).begin(f"127.0.0.1:{port}")
    hub.until(lambda: len(load.acknowledged) > 50)
    hub.process.kill()
    hub.wait()
    until(lambda: all(map(has_ended, workers)))
    until(lambda: is_free(port))
    load.end()
    assert_stored_once(start.start(config_text()).until_ready(), load.acknowledged)


def test_what_forks_the_workers_is_killed_and_new_interpreters_take_their_place(
    two_workers: tuple[HubProcess, int],
) -> None:
    hub, port = two_workers
    before = workers_of(hub, port)
    (forks,) = named("obs-hub-forks", hub.pid)
    load = Load(clients=8).begin(f"127.0.0.1:{port}")
    hub.until(lambda: len(load.acknowledged) > 50)
    forks.kill()
    until(lambda: all(map(has_ended, before)))
    hub.until(lambda: len(workers_of(hub, port)) == 2)
    load.end()
    load.send_refused_again(f"127.0.0.1:{port}")
    assert_stored_once(hub, load.sent)
    assert "workers can be forked no more" in hub.stderr
    assert hub.stop() == 0, hub.stderr
    assert is_free(port)
    assert "Traceback" not in hub.stderr


# -- a database that is down, or hangs -------------------------------------------------------------------------


@pytest.fixture
def server(start: Hubs) -> Iterator[EmbeddedPostgres]:
    """A database server that is not the hub's own."""
    postgres = EmbeddedPostgres(start.folder / "server")
    clusters.place(postgres.directory)
    postgres.start()
    yield postgres
    postgres.stop()


@contextmanager
def hanging(server: EmbeddedPostgres) -> Iterator[None]:
    """Stop a database server in its tracks, for the length of a block."""
    assert server.pid is not None
    postmaster = psutil.Process(server.pid)
    stopped = [postmaster]
    postmaster.suspend()  # first, so that no child is added meanwhile
    try:
        for child in postmaster.children():
            child.suspend()
            stopped.append(child)
        yield
    finally:
        for process in reversed(stopped):
            process.resume()


def test_without_a_spool_a_database_that_is_down_at_the_start_means_try_again(start: Hubs) -> None:
    dead: dict[str, object] = {"dsn": f"postgresql://127.0.0.1:{free_port()}/none"}
    hub = start.start(config_text(timescale=dead | NO_SPOOL)).until_ready()
    with channel_to(hub.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        export(channel, "a")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    metadata: Any = caught.value.trailing_metadata()
    trailers = dict(metadata)
    (detail,) = Status.FromString(trailers["grpc-status-details-bin"]).details
    retry = RetryInfo()
    assert detail.Unpack(retry)
    assert retry.retry_delay.ToTimedelta().total_seconds() > 0
    assert hub.stop() == 0, hub.stderr
    assert "Traceback" not in hub.stderr


def test_with_a_spool_what_came_while_the_database_was_down_is_stored_when_it_is_there(
    start: Hubs, server: EmbeddedPostgres
) -> None:
    dsn = server.dsn
    server.stop()
    quick = {"initial_interval": "100ms", "max_interval": "200ms"}
    hub = start.start(config_text(timescale={"dsn": dsn, "retry_on_failure": quick})).until_ready()
    load = Load(records=200).begin_and_end(hub.grpc, "early")
    assert (len(load.acknowledged), load.refused) == (200, {})
    server.start()
    assert_stored_once(hub, load.acknowledged)
    assert hub.stop() == 0, hub.stderr


def test_what_the_first_of_several_processes_emitted_and_spooled_is_delivered_when_it_was_killed(
    start: Hubs, server: EmbeddedPostgres
) -> None:
    """With fewer processes afterwards, so that its spool is one of those that are left over."""
    dsn = server.dsn
    server.stop()
    emitting = {"hostmetrics": {"collection_interval": "1s"}}
    config = config_text(grpc=free_port(), http=free_port(), timescale={"dsn": dsn}, receivers=emitting)
    hub = start.start(config, "--workers", "2").until_ready()
    its_own = spool_directory(hub.data_dir, "timescale") / "2"
    hub.until(lambda: status(its_own).size)
    hub.process.kill()
    hub.wait()
    assert status(its_own).size
    server.start()
    hub = start.start(config_text(timescale={"dsn": dsn})).until_ready()
    hub.until(lambda: not status(its_own).size)
    with psycopg.connect(dsn) as connection:
        uptimes = connection.execute("SELECT count(*), count(DISTINCT time) FROM metrics WHERE name = 'system.uptime'")
        ((points, collections),) = uptimes.fetchall()
    assert points == collections > 0
    assert hub.stop() == 0, hub.stderr


@pytest.mark.parametrize("spool", [NO_SPOOL, {}], ids=["refusing", "spooling"])
def test_stopped_while_the_database_hangs_it_ends_all_the_same_and_keeps_its_word(
    start: Hubs, server: EmbeddedPostgres, spool: dict[str, object]
) -> None:
    config = config_text(
        timescale={"dsn": server.dsn} | spool, service={"delivery": {"shutdown_grace": "2s"}, "telemetry": {}}
    )
    hub = start.start(config).until_ready()
    load = Load().begin(hub.grpc)
    hub.until(lambda: len(load.acknowledged) > 50)
    with hanging(server):
        assert hub.stop() == 0, hub.stderr
        load.end()
        assert load.refused, "the load ended before the hub did"
    assert "Traceback" not in hub.stderr
    again = start.start(config).until_ready()
    assert_stored_once(again, load.acknowledged)
    load.send_refused_again(again.grpc)
    assert_stored_once(again, load.sent)


def test_stopped_while_its_own_database_hangs_it_ends_once_that_goes_on(start: Hubs) -> None:
    port = free_port()
    config = config_text(grpc=port, service={"delivery": {"shutdown_grace": "2s"}})
    hub = start.start(config).until_ready()
    assert hub.postgres is not None
    load = Load().begin(hub.grpc)
    hub.until(lambda: len(load.acknowledged) > 50)
    with psycopg.connect(hub.dsn) as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        backends = [psutil.Process(pid) for (pid,) in connection.execute(query)]
    assert backends
    for backend in backends:
        backend.suspend()
    try:
        hub.signal(signal.SIGTERM)
        until(lambda: is_free(port))
    finally:
        for backend in backends:
            backend.resume()
    assert hub.wait() == 0, hub.stderr
    assert hub.postgres is None
    assert_stored_once(start.start(config).until_ready(), load.end().acknowledged)


def test_the_data_directory_can_be_moved_between_runs(start: Hubs) -> None:
    hub = start.start(config_text()).until_ready()
    load = Load(records=20).begin_and_end(hub.grpc, "moved")
    assert hub.stop() == 0
    Path(start.folder / "hub").rename(start.folder / "elsewhere")
    assert_stored_once(start.start(config_text(), name="elsewhere").until_ready(), load.acknowledged)
