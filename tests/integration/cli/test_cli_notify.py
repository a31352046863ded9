"""What a gateway tells systemd: readiness when its ports answer, life while all of its processes live, its end."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator

import pytest

from gateway.cli.doctor import _grpc_health
from tests.integration.cli.processes import HubProcess, Hubs, config_text
from tests.support.service_manager import Manager, manager

WATCHDOG = 3.0


@pytest.fixture
def systemd() -> Iterator[Manager]:
    with manager(f"@obs-hub-{uuid.uuid4()}") as made:
        yield made


def started(hubs: Hubs, systemd: Manager, *options: str, watchdog: float = WATCHDOG) -> HubProcess:
    variables = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": str(int(watchdog * 1e6))}
    return hubs.start(config_text(), *options, **variables)


def pings(systemd: Manager, seconds: float) -> int:
    systemd.listen()
    return sum("WATCHDOG" in fields for fields in systemd.listen(seconds))


def test_ready_is_said_once_the_ports_answer_and_stopping_before_they_close(
    hubs_to_start: Hubs, systemd: Manager
) -> None:
    hub = started(hubs_to_start, systemd)
    hub.until(lambda: systemd.has("READY"))
    assert _grpc_health(hub.grpc) == "serving"
    (ready,) = [fields for fields in systemd.said if "READY" in fields]
    assert ready["STATUS"].startswith("serving otlp grpc on 127.0.0.1:")
    before = systemd.said[: systemd.said.index(ready)]
    assert [fields["STATUS"] for fields in before] == [
        "starting the embedded PostgreSQL",
        "starting receivers and exporters",
    ]
    hub.until(lambda: pings(systemd, WATCHDOG) > 0)
    assert hub.stop() == 0
    systemd.listen()
    (stopping,) = [fields for fields in systemd.said if "STOPPING" in fields]
    assert int(stopping["EXTEND_TIMEOUT_USEC"]) > 60e6


def test_when_the_event_loop_hangs_the_watchdog_is_told_nothing(hubs_to_start: Hubs, systemd: Manager) -> None:
    hub = started(hubs_to_start, systemd)
    hub.until(lambda: systemd.has("WATCHDOG"))
    hub.signal(signal.SIGSTOP)
    assert pings(systemd, 2 * WATCHDOG) == 0
    hub.signal(signal.SIGCONT)
    hub.until(lambda: pings(systemd, WATCHDOG) > 0)


def test_when_a_worker_hangs_the_watchdog_is_told_nothing(hubs_to_start: Hubs, systemd: Manager) -> None:
    hub = started(hubs_to_start, systemd, "--workers", "2")
    hub.until(lambda: systemd.has("WATCHDOG"))
    workers = hub.workers
    assert len(workers) == 2
    workers[0].suspend()
    try:
        hub.until(lambda: pings(systemd, WATCHDOG) == 0)
        hub.until(lambda: "nothing has been heard of worker" in hub.stderr)
    finally:
        workers[0].resume()
    hub.until(lambda: pings(systemd, WATCHDOG) > 0)


def test_a_worker_that_dies_is_replaced_and_all_is_well_again(hubs_to_start: Hubs, systemd: Manager) -> None:
    hub = started(hubs_to_start, systemd, "--workers", "2", watchdog=30)
    hub.until(lambda: systemd.has("WATCHDOG"))
    worker = hub.workers[0]
    worker.kill()
    hub.until(lambda: "starting another" in hub.stderr)
    hub.until(lambda: hub.stderr.count("listens") == 3)
    hub.until(lambda: pings(systemd, 5) > 0)
    assert "nothing has been heard of" not in hub.stderr
