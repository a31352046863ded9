"""Alloy and the Collector, run for real where they are on PATH: nothing is lost and nothing doubled by what goes wrong.

Applications are clients that send a request again, byte for byte, until they get an OK, as SDKs do. What they got an OK
for is counted in the store afterwards: each record once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
import yaml

from tests.faults.harness import log_request
from tests.integration.cli.processes import PATIENCE, HubProcess, Hubs, config_text, free_port, hubs, until
from tests.support.journals import RealJournal, entry, remote_program

CONFIG = Path(__file__).parents[3] / "otel-config"


@dataclass
class Forwarder:
    """Alloy or the Collector with the project's configuration, between clients and a gateway.

    ``journal`` is the directory of the journal that it reads, where that is part of the test.
    """

    program: str
    folder: Path
    gateway: str
    journal: Path | None = None
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = self._alloy() if self.program == "alloy" else self._collector()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "OBSHUB_ENDPOINT": f"http://{self.gateway}"},
            )

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)

    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    def _alloy(self) -> list[str]:
        text = (CONFIG / "alloy/config.alloy").read_text("utf-8")
        text = text.replace("127.0.0.1:4318", f"127.0.0.1:{self.port}").replace("127.0.0.1:4317", "127.0.0.1:0")
        if self.journal is not None:
            text = text.replace('max_age       = "12h"', f'max_age       = "12h"\n\tpath          = "{self.journal}"')
        (self.folder / "config.alloy").write_text(text)
        listen = f"--server.http.listen-addr=127.0.0.1:{free_port()}"
        return ["alloy", "run", listen, f"--storage.path={self.folder}/state", "--disable-reporting", "config.alloy"]

    def _collector(self) -> list[str]:
        text = (CONFIG / "collector/config.yaml").read_text("utf-8").replace("8888", str(free_port()))
        text = text.replace("127.0.0.1:4318", f"127.0.0.1:{self.port}").replace("127.0.0.1:4317", "127.0.0.1:0")
        config = yaml.safe_load(text)
        config["extensions"]["file_storage"]["directory"] = str(self.folder / "state")
        if self.journal is None:
            del config["service"]["pipelines"]["logs/journal"]
        else:
            config["receivers"]["journald"] |= {"directory": str(self.journal), "start_at": "beginning"}
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config))
        return [self.program, "--config=config.yaml"]


@pytest.fixture(params=["alloy", "otelcol-contrib"])
def program(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name} on PATH")
    return name


@pytest.fixture
def started() -> Iterator[Hubs]:
    with hubs(forked=True) as each:
        yield each


@contextmanager
def forwarding(forwarder: Forwarder) -> Iterator[Forwarder]:
    forwarder.start()
    try:
        yield forwarder
    finally:
        with suppress(AssertionError):
            forwarder.kill()


def hub_on(started: Hubs, port: int) -> HubProcess:
    """A hub whose address stays the same when it is started again."""
    return started.start(config_text(http=port)).until_ready()


def send(url: str, payload: bytes, seconds: float) -> bool:
    """Send a request once; return whether it got an OK."""
    request = urllib.request.Request(f"{url}/v1/logs", payload, {"Content-Type": "application/x-protobuf"})
    try:
        urllib.request.urlopen(request, timeout=seconds).close()
    except urllib.error.HTTPError as error:
        if error.code not in (429, 502, 503, 504):
            pytest.fail(f"refused for good: {error.code} {error.read(300)!r}")
        return False
    except (OSError, urllib.error.URLError):
        return False
    return True


def send_until_acknowledged(forwarder: Forwarder, payloads: list[bytes], seconds: float = 2) -> None:
    deadline = time.monotonic() + PATIENCE
    for payload in payloads:
        while not send(f"http://127.0.0.1:{forwarder.port}", payload, seconds):
            assert time.monotonic() < deadline, forwarder.log()[-2_000:]
            time.sleep(0.05)


class Clients:
    """Threads that each send requests of five records, one after the other, until told to stop."""

    def __init__(self, forwarder: Forwarder, count: int = 4) -> None:
        self._forwarder = forwarder
        self._stop = threading.Event()
        self.acknowledged: list[int] = []
        self._failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE)
        assert not self._failures, self._failures

    def until(self, more: int) -> None:
        wanted = len(self.acknowledged) + more
        until(lambda: self._failures or len(self.acknowledged) >= wanted)

    def _send(self, number: int) -> None:
        try:
            for start in range(number * 10**6, (number + 1) * 10**6, 5):
                if self._stop.is_set():
                    return
                ids = range(start, start + 5)
                send_until_acknowledged(self._forwarder, [log_request(ids)])
                self.acknowledged.extend(ids)
        except BaseException as failure:
            self._failures.append(failure)


def assert_each_once(hub: HubProcess, ids: list[int]) -> None:
    def stored() -> dict[int, int]:
        with psycopg.connect(hub.dsn) as connection:
            rows = connection.execute("SELECT body, count(*) FROM log GROUP BY 1").fetchall()
        return {int(body): count for body, count in rows if body and body.isdigit()}

    # What takes the store long is acknowledged out of the spool.
    with suppress(AssertionError):
        until(lambda: set(ids) <= stored().keys())
    found = stored()
    assert {each: found.get(each, 0) for each in ids if found.get(each) != 1} == {}
    assert set(found) == set(ids)


def test_an_outage_of_the_gateway_loses_and_doubles_nothing_of_applications(
    started: Hubs, tmp_path: Path, program: str
) -> None:
    port = free_port()
    hub = hub_on(started, port)
    with forwarding(Forwarder(program, tmp_path / "f", f"127.0.0.1:{port}")) as forwarder:
        with Clients(forwarder) as clients:
            clients.until(50)
            assert hub.stop() == 0
            time.sleep(6)  # three times as long as a client waits: each has sent its request again by now
            hub = hub_on(started, port)
            clients.until(50)
        assert_each_once(hub, clients.acknowledged)


def test_a_kill_of_the_forwarder_loses_and_doubles_nothing_of_applications(
    started: Hubs, tmp_path: Path, program: str
) -> None:
    port = free_port()
    hub = hub_on(started, port)
    with forwarding(Forwarder(program, tmp_path / "f", f"127.0.0.1:{port}")) as forwarder:
        with Clients(forwarder) as clients:
            for _ in range(2):
                clients.until(50)
                forwarder.kill()
                forwarder.start()
            clients.until(50)
        assert_each_once(hub, clients.acknowledged)


def test_large_requests_after_an_outage_are_all_taken(started: Hubs, tmp_path: Path, program: str) -> None:
    """They wait together, and go on one by one: none is refused for its size."""
    port = free_port()
    hub = hub_on(started, port)
    with forwarding(Forwarder(program, tmp_path / "f", f"127.0.0.1:{port}")) as forwarder:
        send_until_acknowledged(forwarder, [log_request([10**9])])
        assert hub.stop() == 0
        large = [log_request(range(start, start + 45_000)) for start in range(0, 270_000, 45_000)]
        assert min(map(len, large)) > 2**20
        with ThreadPoolExecutor(len(large)) as clients:
            sending = [clients.submit(send_until_acknowledged, forwarder, [each], 60.0) for each in large]
            hub = hub_on(started, port)
        for each in sending:
            each.result()  # else it is no loss, but nothing that was acknowledged
        assert "Status Code 413" not in forwarder.log()  # as both say it; a timestamp may have the digits too
        assert_each_once(hub, [10**9, *range(270_000)])


def test_a_line_that_is_not_utf8_takes_no_other_with_it(started: Hubs, tmp_path: Path, program: str) -> None:
    port = free_port()
    hub = hub_on(started, port)
    payload = log_request(range(1000, 1010)).replace(b"1004", b"10\xff4")
    with forwarding(Forwarder(program, tmp_path / "f", f"127.0.0.1:{port}")) as forwarder:
        send_until_acknowledged(forwarder, [log_request([1])])
        sent = send(f"http://127.0.0.1:{forwarder.port}", payload, 30)
        if not sent:
            pytest.skip(f"{program} refuses it itself")
    with psycopg.connect(hub.dsn) as connection:
        bodies = {body for (body,) in connection.execute("SELECT body FROM log")}
    assert bodies == {"1", *map(str, range(1000, 1004)), "10\ufffd4", *map(str, range(1005, 1010))}


@pytest.mark.skipif(remote_program() is None, reason="there is no systemd-journal-remote to write a journal with")
def test_every_line_of_the_journal_arrives_once(started: Hubs, tmp_path: Path, program: str) -> None:
    port = free_port()
    hub = hub_on(started, port)
    journal = RealJournal(tmp_path / "journal")
    now = time.time_ns() // 1000
    journal.write(*(entry(f"{number}", now - 6_000 + number) for number in range(3_000)))
    with forwarding(Forwarder(program, tmp_path / "f", f"127.0.0.1:{port}", journal.directory)):
        count = "SELECT count(*) FROM log WHERE body ~ '^[0-9]+$'"

        def stored(wanted: int) -> bool:
            with psycopg.connect(hub.dsn) as connection:
                return bool((connection.execute(count.encode()).fetchone() or (0,))[0] >= wanted)

        hub.until(lambda: stored(3_000))
        assert_each_once(hub, list(range(3_000)))
    with psycopg.connect(hub.dsn) as connection:
        resources = connection.execute(
            "SELECT DISTINCT service_name, host_name FROM logs WHERE body ~ '^[0-9]+$'"
        ).fetchall()
    assert resources == [("web", "nas")]
