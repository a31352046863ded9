"""Several destinations: Loki and another gateway beside the store, each of which may fail without the others."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import grpc
import psycopg
import pytest

from gateway.component import Signal
from tests.faults.harness import (
    METHODS,
    ROUNDS,
    Gateway,
    Load,
    load,
    log_request,
    prove,
    stored,
    stored_events,
    until,
)
from tests.integration.cli.processes import Hubs, obs_hub
from tests.support.databases import Database
from tests.support.loki import StandInLoki, stand_in_loki
from tests.support.waiting import PATIENCE


@pytest.fixture
def loki() -> Iterator[StandInLoki]:
    with stand_in_loki() as loki:
        yield loki


def beside_loki(hubs: Hubs, dsn: str, loki: StandInLoki, **settings: object) -> Gateway:
    """A gateway whose logs go to Loki, and events into the store as well."""
    exporters = {"loki": {"endpoint": loki.url, **settings}}
    return Gateway(hubs, dsn, exporters=exporters, routes={"logs": ["timescale", "loki"]})


def prove_both(fault: str, clients: Load, gateway: Gateway, loki: StandInLoki, rounds: int = 1) -> None:
    """Nothing acknowledged is lost, and nothing is there twice: every record in Loki, every event in the store."""

    def lines() -> Counter[int]:
        return Counter(map(int, loki.lines))

    prove(f"{fault}: Loki", clients, gateway, rounds=rounds, read=lines)
    events = stored_events(gateway.dsn)
    prove(f"{fault}: events in the store", clients, gateway, rounds=rounds, read=lambda: events, of=is_event)
    assert all(map(is_event, events)), "plain logs are Loki's"


def is_event(number: int) -> bool:
    return number % 2 == 0


@pytest.mark.parametrize("fault", ["down", "429", "503", "hanging"])
def test_loki_fails_for_a_while(hubs_to_start: Hubs, native_database: Database, loki: StandInLoki, fault: str) -> None:
    gateway = beside_loki(hubs_to_start, native_database.dsn, loki).start()
    with load(gateway, events=True) as clients:
        clients.until_acknowledged(10)
        if fault == "down":
            loki.stop()
        elif fault == "hanging":
            loki.delay = 3
        else:
            loki.answer, loki.retry_after = int(fault), "1"
        clients.until_acknowledged(40)
        assert gateway.spooled
        # The store does not wait for Loki.
        acknowledged = [number for number in clients.acknowledged if is_event(number)]
        until(lambda: stored_events(gateway.dsn).keys() >= set(acknowledged), "the events being stored")
        assert not set(clients.acknowledged) <= {int(line) for line in loki.lines}
        loki.restart()
        until(lambda: not gateway.spooled, "the spool being empty")
        clients.until_acknowledged(10)
        clients.finish()
    prove_both(f"Loki {fault}", clients, gateway, loki)


def test_the_store_is_away_and_loki_does_not_wait_for_it(
    hubs_to_start: Hubs, native_database: Database, loki: StandInLoki
) -> None:
    gateway = beside_loki(hubs_to_start, native_database.dsn, loki).start()
    with load(gateway, events=True) as clients:
        clients.until_acknowledged(10)
        with psycopg.connect(native_database.dsn) as connection:
            connection.execute("LOCK TABLE log IN ACCESS EXCLUSIVE MODE")
            clients.until_acknowledged(40)
            assert gateway.spooled
            acknowledged = set(clients.acknowledged)
            until(lambda: {int(line) for line in loki.lines} >= acknowledged, "the logs being in Loki")
        clients.finish()
    prove_both("the store away beside Loki", clients, gateway, loki)


def test_a_killed_gateway_delivers_what_loki_has_not_got(
    hubs_to_start: Hubs, native_database: Database, loki: StandInLoki
) -> None:
    rounds = 3 * ROUNDS
    gateway = beside_loki(hubs_to_start, native_database.dsn, loki).start()
    with load(gateway, events=True) as clients:
        for number in range(rounds):
            clients.until_acknowledged(5, unless=lambda: gateway.dead)
            loki.stop()
            clients.until_acknowledged(20, unless=lambda: gateway.dead)
            if number % 2:
                gateway.kill()
                loki.restart()
            else:
                loki.restart()
                time.sleep(0.2)
                gateway.kill()
            gateway.start()
        clients.until_acknowledged(10)
        clients.finish()
    prove_both(f"gateway killed while Loki comes and goes ({loki.repeated} repeated)", clients, gateway, loki, rounds)


def test_what_loki_refuses_is_kept_and_spoils_nothing(
    hubs_to_start: Hubs, native_database: Database, loki: StandInLoki
) -> None:
    # Not slow, whatever the machine has to do: what a spool has taken is answered before Loki is.
    gateway = beside_loki(hubs_to_start, native_database.dsn, loki, slow_after=f"{PATIENCE:g}s").start()
    long = "9" * 1_000
    loki.max_line_size = 500
    with load(gateway, events=True) as clients, grpc.insecure_channel(gateway.endpoint) as channel:
        call = channel.unary_unary(METHODS[Signal.LOGS])
        clients.until_acknowledged(5)
        answer = call(log_request([17, int(long), 19], "mixed"), timeout=PATIENCE)
        clients.until_acknowledged(5)
        clients.finish()
    assert b"loki refused 1 records of this batch: 1 of 3 records: Loki answers 400" in answer
    assert {"17", "19"} <= set(loki.lines)
    data_dir = ("--data-dir", gateway.hub.data_dir)
    listed = obs_hub("dead-letter", "list", *data_dir).stdout
    assert listed.count("max entry size '500' bytes exceeded") == 1, listed
    refused = obs_hub("dead-letter", "replay", "--all", *data_dir, "--config", gateway.hub.config_file)
    assert refused.returncode == 1
    loki.max_line_size = 1_000
    before = loki.repeated
    replayed = obs_hub("dead-letter", "replay", "--all", *data_dir, "--config", gateway.hub.config_file)
    assert replayed.returncode == 0, replayed.stderr
    assert long in loki.lines
    assert loki.repeated == before, "only what was refused was sent again"
    loki.entries = {entry: None for entry in loki.entries if entry[0] != "mixed"}
    prove_both("Loki refuses records", clients, gateway, loki)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_another_gateway_gets_everything_exactly_once(
    hubs_to_start: Hubs, native_database: Database, protocol: str
) -> None:
    far = Gateway(hubs_to_start, native_database.dsn, name="far", topology="gateway to gateway").start()
    endpoint = f"http://127.0.0.1:{far.port if protocol == 'grpc' else far.http_port}"
    exporters: dict[str, dict[str, object]] = {"otlp": {"endpoint": endpoint, "protocol": protocol}}
    near = Gateway(
        hubs_to_start,
        native_database.dsn,  # its own store is in no pipeline
        name="near",
        exporters=exporters,
        routes={signal: ["otlp"] for signal in ("metrics", "logs", "traces")},
    ).start()
    rounds = 2 * ROUNDS
    with load(near) as clients:
        for _ in range(rounds):
            clients.until_acknowledged(20)
            far.kill()
            clients.until_acknowledged(20)
            assert near.spooled
            near.kill()
            far.start(wait=False)
            near.start()
            far.hub.until_ready()
            clients.until_acknowledged(20)
            near.kill()
            near.start()
        clients.until_acknowledged(20)
        clients.finish()
        until(lambda: not near.spooled, "the near spool being empty")
    prove(f"gateway to gateway over {protocol}, both killed", clients, far, rounds=rounds)
    assert stored(far.dsn)
