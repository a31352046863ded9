"""A gateway that processes what it gets is killed: each record that it lets through is stored once, as it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.component import Batch, Signal
from gateway.data_paths import spools
from gateway.pipeline.spool import Record, scan, segments
from tests.faults.harness import METHODS, TEXT, Gateway, load, prove, request, stored, until
from tests.integration.cli.processes import Hubs
from tests.support.databases import Database
from tests.support.processing import attributes_of, read, records_of
from tests.support.waiting import PATIENCE

MODULE = "of_the_test"
FUNCTION = """
def mark(record):
    number = int(getattr(record, "body", record.name))
    record.attributes["twice"] = 2 * number
    record.attributes["from"] = f"user{number}@example.com"
    return number % 10 != 3
"""
SIGNALS = (Signal.LOGS, Signal.TRACES)


def passes(number: int) -> bool:
    """Whether the processors of `processing` let a record through: a filter and the function leave out one of each."""
    return number % 10 not in (3, 7)


def processing(hubs: Hubs, database: Database, folder: Path, name: str = "hub", **more: dict[str, object]) -> Gateway:
    """A gateway with one processor of each kind, in the pipelines of logs and of traces."""
    (folder / f"{MODULE}.py").write_text(FUNCTION)
    processors: dict[str, dict[str, object]] = {
        "filter/logs": {"drop": ['body matches "7$"']},
        "filter/traces": {"drop": ['name matches "7$"']},
        "python": {"function": f"{MODULE}:mark", "path": str(folder)},
        "redact": {"detect": ["email"]},
        "attributes": {"actions": [{"action": "insert", "key": "site", "value": "home"}]},
        "limit": {"records_per_second": 10_000_000},
        "sample": {"ratio": 1.0},
        **more,
    }
    others = ["python", "redact", "attributes", "sample", "limit"]
    return Gateway(
        hubs,
        database.dsn,
        name=name,
        processors=processors,
        processed={signal.value: [f"filter/{signal.value}", *others] for signal in SIGNALS},
        spool={"segment_size": "64KiB"},
    )


def made_of(number: int) -> dict[str, Any]:
    """The attributes that the processors make of a record's."""
    return {"text": TEXT, "twice": 2 * number, "from": "[redacted:email]", "site": "home"}


def assert_processed(database: Database) -> None:
    """What is stored went through all processors, and what they leave out is not there."""
    rows = database.run("SELECT body::bigint, attributes FROM log UNION ALL SELECT name::bigint, attributes FROM span")
    assert rows
    for number, attributes in rows:
        assert passes(number)
        assert attributes == made_of(number)


@pytest.mark.parametrize("step", ["after receive", "after commit", "after spool fsync", "after replay commit"])
def test_kill_at_each_step(hubs_to_start: Hubs, native_database: Database, tmp_path: Path, step: str) -> None:
    gateway, spooling = processing(hubs_to_start, native_database, tmp_path), "spool" in step or "replay" in step
    gateway.start(OBSHUB_TEST_CRASH_AT=f"{step}:{2 if spooling else 15}")
    with load(gateway, signals=SIGNALS) as clients:
        clients.until_acknowledged(5, unless=lambda: gateway.dead)
        if spooling:
            native_database.allow_connections(False)
            clients.until_acknowledged(20, unless=lambda: gateway.dead)
            native_database.allow_connections(True)
        gateway.until_dead()
        gateway.start()
        clients.until_acknowledged(5)
        clients.finish()
    prove(f"gateway with processors killed {step}", clients, gateway, of=passes)
    assert_processed(native_database)


def test_kill_of_workers_and_of_all(hubs_to_start: Hubs, database: Database, tmp_path: Path) -> None:
    gateway = processing(hubs_to_start, database, tmp_path).start("--workers", "2")
    with load(gateway, signals=SIGNALS, clients=8) as clients:
        clients.until_acknowledged(20)
        workers = gateway.hub.workers
        assert len(workers) == 2
        workers[0].kill()
        clients.until_acknowledged(20)
        database.allow_connections(False)
        clients.until_acknowledged(20)
        gateway.kill_all()
        database.allow_connections(True)
        gateway.start("--workers", "2")
        clients.until_acknowledged(20)
        clients.finish()
    prove("gateway with processors, workers killed, then all", clients, gateway, rounds=2, of=passes)
    assert_processed(database)


def test_what_a_limit_lets_through_is_stored_once(hubs_to_start: Hubs, database: Database, tmp_path: Path) -> None:
    """Each life of the gateway has a limit that begins anew; a batch that an earlier one stored is known again."""
    limit: dict[str, object] = {"records_per_second": 1, "burst": 30}  # of each client; a request has 16
    gateway = processing(hubs_to_start, database, tmp_path, limit=limit)
    gateway.start(OBSHUB_TEST_CRASH_AT="after commit:2")
    with load(gateway, signals=SIGNALS) as clients:
        gateway.until_dead()
        gateway.start()
        clients.until_acknowledged(20)
        clients.finish()
    until(lambda: not gateway.spooled, "the spools being empty")
    found = stored(database.dsn)
    assert set(found.values()) == {1}
    assert found.keys() < set(filter(passes, clients.acknowledged)), "the rest was over the limit"
    assert not clients.final
    assert_processed(database)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_is_sent_again_after_a_kill_becomes_the_same_bytes(
    hubs_to_start: Hubs, native_database: Database, tmp_path: Path, workers: str
) -> None:
    """Whichever process of whichever gateway gets it: spools hold what was made of it and by what it is known."""
    gateways = [processing(hubs_to_start, native_database, tmp_path, name) for name in ("one", "other")]
    numbers = range(1_000, 1_020)
    payload = request(numbers, signal=Signal.LOGS)
    spooled = []
    for gateway in gateways:
        gateway.start("--workers", workers)
        native_database.allow_connections(False)
        for _ in range(3):
            send_once(gateway, payload)
        gateway.kill_all()
        native_database.allow_connections(True)
        spooled += [made := held(gateway)]
        assert made
    batches = [batch for made in spooled for batch in made]
    assert len({batch.digest for batch in batches}) == len({batch.payload for batch in batches}) == 1
    records = records_of(read(batches[0]))
    assert [int(each.body.string_value) for each in records] == list(filter(passes, numbers))
    assert all(attributes_of(each) == made_of(int(each.body.string_value)) for each in records)
    for gateway in gateways:
        gateway.start()
    until(lambda: not sum(each.spooled for each in gateways), "the spools being empty")
    assert native_database.count("log") == len(records)
    assert_processed(native_database)


def send_once(gateway: Gateway, payload: bytes) -> None:
    """Send a request on a connection of its own, so that any worker may get it, until it is acknowledged."""
    answers: list[grpc.StatusCode] = []

    def acknowledged() -> bool:
        with grpc.insecure_channel(gateway.endpoint, (("grpc.use_local_subchannel_pool", 1),)) as channel:
            try:
                channel.unary_unary(METHODS[Signal.LOGS])(payload, timeout=PATIENCE)
            except grpc.RpcError as error:
                answers.append(error.code())
                return False
            return True

    until(acknowledged, "the request being acknowledged")
    assert set(answers) <= {grpc.StatusCode.UNAVAILABLE}


def held(gateway: Gateway) -> list[Batch]:
    """What waits in all spools of a gateway that does not run."""
    return [
        item.batch
        for _, directory in spools(gateway.hub.data_dir)
        for path in segments(directory)
        for item in scan(path.read_bytes())
        if isinstance(item, Record)
    ]
