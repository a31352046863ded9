from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

import pytest

from tests.integration.cli.processes import config_text, hubs
from tests.integration.otel_config import lab
from tests.integration.test_self_telemetry import send
from tests.support.databases import Database
from tests.support.stores import maintain

LOKI_VARIABLE = "OBSHUB_TEST_LOKI_URL"
TELEMETRY = {"telemetry": {"metrics": {"enabled": True, "interval": "1s"}, "traces": {"enabled": False}}}


@pytest.fixture(scope="module")
def store(module_database: Database) -> Database:
    """A store with the telemetry of a lab, that of a hub and of the machine it runs on; all came in through the hub."""
    configuration = config_text(
        timescale={"dsn": module_database.dsn},
        service=TELEMETRY,
        receivers={"hostmetrics": {"collection_interval": "1s"}},
    )
    with hubs() as started:
        hub = started.start(configuration).until_ready()
        for signal, payloads in {
            "metrics": [lab.metrics()],
            "logs": [lab.journal(), lab.events()],
            "traces": [lab.traces()],
        }.items():
            for payload in payloads:
                send(hub, signal, payload)
        for name in ("obs_hub.commit.duration", "system.network.io", "obs_hub.records.accepted"):
            view = "histograms" if name.endswith("duration") else "metrics"
            hub.until(
                lambda name=name, view=view: module_database.value(  # type: ignore[misc]
                    "SELECT coalesce(max(n), 0) >= 3 FROM "
                    f"(SELECT count(*) AS n FROM {view} WHERE name = %s GROUP BY series_id) AS counts",
                    (name,),
                )
            )
        assert hub.stop() == 0
    if module_database.native:
        maintain(module_database)
    return module_database


@dataclass(frozen=True)
class Loki:
    """A Loki that holds the lab's journal."""

    url: str


@pytest.fixture(scope="module")
def loki() -> Loki:
    """The Loki that is named, with the lab's journal sent to it as the gateway sends it: OTLP, as it came."""
    url = os.environ.get(LOKI_VARIABLE, "").rstrip("/")
    if not url:
        pytest.skip(f"{LOKI_VARIABLE} names no Loki")
    request = urllib.request.Request(
        f"{url}/otlp/v1/logs", lab.journal(), {"Content-Type": "application/x-protobuf"}, method="POST"
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(request, timeout=30).close()
            return Loki(url)
        except urllib.error.HTTPError as error:
            if time.monotonic() >= deadline:
                raise AssertionError(error.read()) from error
        time.sleep(0.5)
