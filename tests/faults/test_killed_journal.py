"""The journal receiver, the hub, or both are killed: every entry is in the store once."""

from __future__ import annotations

import itertools
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import yaml

from tests.faults.harness import ROUNDS, Gateway, until
from tests.integration.cli.processes import PATIENCE, HubProcess, Hubs, config_text, environment, free_port
from tests.support import fork_server
from tests.support.databases import Database
from tests.support.journals import Journal, RealJournal, StandInJournal, entry, real_is_here

_SIZES = itertools.cycle([25, 7, 40, 13])
STEPS = ["before position fsync", "before sending", "after acknowledgement", "after position"]


@pytest.fixture(params=["stand-in", "real"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    if request.param == "stand-in":
        return StandInJournal(tmp_path / "journal")
    if not real_is_here():
        pytest.skip("journalctl and systemd-journal-remote are not both installed")
    return RealJournal(tmp_path / "journal")


def configuration(journal: Journal, grpc: int = 0, dsn: str | None = None, *, http: int = 0, **settings: object) -> str:
    config = yaml.safe_load(config_text(grpc=grpc, http=http, timescale={"dsn": dsn} if dsn else None))
    config["service"]["pipelines"]["logs"]["receivers"].append("journald")
    config["receivers"]["journald"] = settings | {
        "directory": str(journal.directory),
        "journalctl_path": journal.journalctl,
        "start_at": "beginning",
        # Another size at each start: entries read again do not make the same requests by chance.
        "batch": {"max_records": next(_SIZES), "timeout": "50ms"},
        "retry_on_failure": {"initial_interval": "20ms", "max_interval": "200ms"},
        "timeout": "2s",
    }
    return yaml.safe_dump(config)


class JournalProcess:
    """``obs-hub journal``, through all its lives."""

    def __init__(self, folder: Path, journal: Journal, endpoint: str) -> None:
        self._folder = folder
        self._journal = journal
        self._endpoint = endpoint
        self.process: fork_server.ForkedProcess | None = None

    def start(self, **variables: str) -> None:
        config = configuration(self._journal, endpoint=f"http://{self._endpoint}")
        (self._folder / "journal.yaml").write_text(config)
        arguments = ["--config", str(self._folder / "journal.yaml"), "--data-dir", str(self._folder / "state")]
        with (self._folder / "journal.log").open("ab") as log:
            self.process = fork_server.start(["journal", *arguments], environment(**variables), log, log)

    @property
    def dead(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    @property
    def log(self) -> str:
        return (self._folder / "journal.log").read_text()


class Writer:
    """Writes entries without pause, each with a number of its own."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._stop = threading.Event()
        self.written: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            messages = [f"entry {len(self.written) + number}" for number in range(10)]
            self._journal.write(*map(entry, messages))
            self.written += messages


@contextmanager
def writing(journal: Journal) -> Iterator[Writer]:
    writer = Writer(journal)
    try:
        yield writer
    finally:
        writer.stop()


def stored(dsn: str) -> Counter[str]:
    with suppress(psycopg.Error), psycopg.connect(dsn, connect_timeout=10) as connection:
        query = "SELECT body, count(*) FROM logs WHERE body LIKE 'entry %' GROUP BY 1"
        return Counter(dict(connection.execute(query).fetchall()))
    return Counter()


def grown(dsn: str, by: int = 1) -> None:
    """Wait until the store has more entries than now."""
    goal = stored(dsn).total() + by
    until(lambda: stored(dsn).total() >= goal, "more entries in the store")


def prove(dsn: str, writer: Writer) -> None:
    """Each entry that was written is in the store, once."""
    writer.stop()
    assert writer.written
    until(lambda: set(writer.written) <= set(stored(dsn)), "every entry in the store")
    found = stored(dsn)
    assert not [message for message, count in found.items() if count > 1]
    assert len(found) == len(writer.written)


@pytest.fixture
def process(
    tmp_path: Path, journal: Journal, native_database: Database, hubs_to_start: Hubs
) -> Iterator[tuple[JournalProcess, Gateway]]:
    gateway = Gateway(hubs_to_start, native_database.dsn)
    process = JournalProcess(tmp_path, journal, gateway.endpoint)
    try:
        yield process, gateway
    finally:
        if process.process is not None and not process.dead:
            process.end(signal.SIGKILL)


def test_receiver_and_hub_killed_at_random_moments(process: tuple[JournalProcess, Gateway], journal: Journal) -> None:
    sender, gateway = process
    chance = random.Random(4)
    gateway.start()
    with writing(journal) as writer:
        for round_ in range(3 * ROUNDS):
            sender.start()
            grown(gateway.dsn, 50)
            time.sleep(chance.uniform(0, 0.3))
            sender.end(signal.SIGKILL)
            if round_ % 3 == 1:
                gateway.kill()
                gateway.start()
        sender.start()
        grown(gateway.dsn, 50)
        gateway.kill()  # away, and back
        gateway.start()
        prove(gateway.dsn, writer)
    assert sender.end(signal.SIGTERM) == 0, sender.log


@pytest.mark.parametrize("step", STEPS)
def test_receiver_killed_at_each_step(process: tuple[JournalProcess, Gateway], journal: Journal, step: str) -> None:
    if isinstance(journal, RealJournal) and ROUNDS == 1:
        pytest.skip("the steps are the same with a real journal; OBSHUB_TEST_FAULT_ROUNDS=2 runs them too")
    sender, gateway = process
    gateway.start()
    with writing(journal) as writer:
        sender.start(OBSHUB_TEST_CRASH_AT=f"{step}:5")
        until(lambda: sender.dead, "the end of the receiver")
        assert sender.process is not None
        assert sender.process.returncode == -signal.SIGKILL, sender.log
        sender.start()
        grown(gateway.dsn)
        prove(gateway.dsn, writer)
    assert sender.end(signal.SIGTERM) == 0, sender.log


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hub_that_reads_the_journal_itself_is_killed(
    hubs_to_start: Hubs, native_database: Database, journal: Journal, workers: int
) -> None:
    """Beside workers the journal is read, and delivered, by the first process."""
    if workers > 1 and isinstance(journal, RealJournal) and ROUNDS == 1:
        pytest.skip("workers have nothing to do with the journal; OBSHUB_TEST_FAULT_ROUNDS=2 tries them with both")
    grpc, http, options = free_port(), free_port(), () if workers == 1 else ("--workers", str(workers))

    def start() -> HubProcess:
        config = configuration(journal, grpc, native_database.dsn, http=http)
        return hubs_to_start.start(config, *options).until_ready()

    with writing(journal) as writer:
        for _ in range(ROUNDS):
            hub = start()
            grown(native_database.dsn, 50)
            hub.process.kill()
            hub.wait()
        hub = start()
        grown(native_database.dsn, 50)
        prove(native_database.dsn, writer)
        assert hub.stop() == 0, hub.stderr
