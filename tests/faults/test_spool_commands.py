"""``obs-hub spool`` and ``obs-hub dead-letter``, with a gateway, without one, and after one."""

from __future__ import annotations

import json

import grpc
import pytest

from gateway.component import Batch, Signal
from gateway.data_paths import dead_letter_directory, spool_directory
from gateway.pipeline.dead_letters import DeadLetters
from gateway.pipeline.spool import segments
from tests.faults.harness import METHOD, Gateway, load, prove, request, stored, until
from tests.integration.cli.processes import Hubs, obs_hub
from tests.support.databases import Database
from tests.support.waiting import PATIENCE


def on(gateway: Gateway, *words: object, config: bool = False, code: int = 0) -> str:
    """Run a command on a gateway's data directory; return what it printed."""
    options = ["--config", gateway.hub.config_file] if config else []
    result = obs_hub(*words, "--data-dir", gateway.hub.data_dir, *options)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr


@pytest.fixture
def gateway(hubs_to_start: Hubs, native_database: Database) -> Gateway:
    return Gateway(hubs_to_start, native_database.dsn).start()


def test_what_waits_is_shown_listed_and_drained(gateway: Gateway, native_database: Database) -> None:
    assert "Nothing was ever spooled." in on(gateway, "spool", "status")
    native_database.allow_connections(False)
    with load(gateway) as clients:
        clients.until_acknowledged(10)
        clients.finish()
    status = on(gateway, "spool", "status")
    assert status.startswith("timescale/0: ")
    assert f"{gateway.spooled:,} bytes in 1 segments" in status
    lines = on(gateway, "spool", "list").splitlines()
    assert len(lines) == len(clients.sent) / 20
    assert all("timescale" in line for line in lines)
    assert all(any(signal in line for line in lines) for signal in Signal)
    assert "drains its spools by itself" in on(gateway, "spool", "drain", config=True, code=1)
    assert gateway.hub.stop() == 0
    native_database.allow_connections(True)
    assert "timescale/0: empty" in on(gateway, "spool", "drain", config=True)
    assert "timescale/0: 0 bytes in 0 segments" in on(gateway, "spool", "status")
    assert "Nothing waits in any spool." in on(gateway, "spool", "list")
    prove("drained from the command line", clients, gateway)


def test_damage_is_listed_delivered_around_and_shown(gateway: Gateway, native_database: Database) -> None:
    native_database.allow_connections(False)
    with load(gateway, clients=1) as clients:
        clients.until_acknowledged(4)
    gateway.kill()
    (path,) = segments(spool_directory(gateway.hub.data_dir, "timescale") / "0")
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF  # within the first record
    path.write_bytes(content)
    assert "bytes damaged in" in on(gateway, "spool", "list").splitlines()[0]
    native_database.allow_connections(True)
    gateway.start()
    until(lambda: not gateway.spooled, "the spool being empty")
    assert "1 damaged pieces set aside in" in on(gateway, "spool", "status")
    lost = set(clients.acknowledged) - set(stored(gateway.dsn))
    assert lost == set(clients.acknowledged[:20]), "the damaged record and no other"


def test_a_batch_for_an_exporter_that_is_no_more_is_not_drained_into_nothing(gateway: Gateway) -> None:
    assert gateway.hub.stop() == 0
    elsewhere = spool_directory(gateway.hub.data_dir, "loki/old") / "0"
    elsewhere.mkdir(parents=True)
    (elsewhere / f"{1:016d}.segment").write_bytes(b"something")
    assert "no exporter loki/old is configured" in on(gateway, "spool", "drain", config=True, code=1)


def test_dead_letters_are_listed_shown_replayed_and_dropped(hubs_to_start: Hubs, native_database: Database) -> None:
    gateway = Gateway(hubs_to_start, native_database.dsn, timeout=f"{PATIENCE:g}s").start()
    assert "There are no dead letters." in on(gateway, "dead-letter", "list")
    native_database.run("ALTER TABLE sample ADD CONSTRAINT no_nine CHECK (int_value NOT IN (9, 19))")
    with grpc.insecure_channel(gateway.endpoint) as channel:
        for first in (0, 10, 20):
            channel.unary_unary(METHOD)(request(range(first, first + 10)), timeout=PATIENCE)
    rest = sorted({*range(30)} - {9, 19})
    until(lambda: sorted(stored(gateway.dsn)) == rest, "what is not refused")
    letters = DeadLetters(dead_letter_directory(gateway.hub.data_dir, "timescale"))
    until(lambda: len(list(letters)) == 2, "the rest being kept")
    assert "no_nine" in gateway.log()

    first, second = list(letters)
    listed = on(gateway, "dead-letter", "list")
    assert first.name in listed
    assert second.name in listed
    assert "no_nine" in listed
    assert listed.endswith("timescale: 2 dead letters, 16,384 bytes on disk\n")

    shown = obs_hub("dead-letter", "show", first.name[:20], "--data-dir", gateway.hub.data_dir)
    (point,) = json.loads(shown.stdout)["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["gauge"]["dataPoints"]
    assert int(point["asInt"]) == 9
    assert "no_nine" in shown.stderr

    refused = on(gateway, "dead-letter", "replay", "--all", config=True, code=1)
    assert refused.count("no_nine") == 2
    assert len(list(letters)) == 2

    native_database.run("ALTER TABLE sample DROP CONSTRAINT no_nine")
    assert f"{first.name}: delivered" in on(gateway, "dead-letter", "replay", first.name, config=True)
    assert sorted(stored(gateway.dsn)) == sorted([*rest, 9])
    assert f"{second.name}: dropped" in on(gateway, "dead-letter", "drop", second.name)
    assert list(letters) == []
    assert "There are no dead letters." in on(gateway, "dead-letter", "show", first.name, code=1)


def test_commands_ask_what_to_do_rather_than_guess(gateway: Gateway) -> None:
    letters = DeadLetters(dead_letter_directory(gateway.hub.data_dir, "timescale"))
    for payload in (b"a", b"b"):
        letters.keep(Batch.of(Signal.LOGS, payload), "no")
    assert "name dead letters, or say --all" in on(gateway, "dead-letter", "drop", code=2)
    assert "more than one begins so" in on(gateway, "dead-letter", "show", "0", code=1)
    assert "not a valid request" in on(gateway, "dead-letter", "show", next(iter(letters)).name, code=1)
    assert len(list(letters)) == 2
