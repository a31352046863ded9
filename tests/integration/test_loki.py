"""What a real Loki does, where one is named: the exporter counts on it, and so does the stand-in of other tests."""

from __future__ import annotations

import os
import time
import uuid

import pytest

from exporters.loki.client import LokiClient
from exporters.loki.config import LokiConfig
from exporters.loki.exporter import LokiExporter
from gateway.base.settings import ExporterSettings
from gateway.component import PartlyRefusedError, RefusedError, UnavailableError
from gateway.pipeline.attempts import attempt_alone
from tests.integration.cli.processes import until
from tests.support.loki import RealLoki
from tests.support.telemetry import DAY, logs

VARIABLE = "OBSHUB_TEST_LOKI_URL"


@pytest.fixture
def loki() -> RealLoki:
    url = os.environ.get(VARIABLE)
    if not url:
        pytest.skip(f"{VARIABLE} names no Loki")
    return RealLoki(url.rstrip("/"))


@pytest.fixture
def service() -> str:
    return f"test-{uuid.uuid4().hex}"


async def test_bad_records_are_told_from_their_neighbours(loki: RealLoki, service: str) -> None:
    now, resource = time.time_ns(), {"service.name": service}
    good = logs(*(f"good {number}" for number in range(50)), at=now, resource=resource)
    old = logs("old", at=now - 365 * DAY, resource=resource)
    more = logs("more", at=now, resource=resource)
    # Requests put one after the other are one request.
    batch = type(good).of(good.signal, good.payload + old.payload + more.payload)
    exporter = LokiExporter("loki", LokiConfig(endpoint=loki.url))
    await exporter.start()
    with pytest.raises(PartlyRefusedError, match="1 of 52 records: Loki answers 400") as raised:
        await attempt_alone(exporter, batch, ExporterSettings())
    await exporter.stop()
    assert raised.value.payload == old.payload
    until(lambda: len(loki.lines_of(service)) >= 51)
    assert sorted(loki.lines_of(service)) == sorted([*(f"good {number}" for number in range(50)), "more"])


@pytest.mark.parametrize(("duplicates", "kept"), [("drop", 2), ("keep", 4)])
async def test_equal_records_and_repeated_batches(loki: RealLoki, service: str, duplicates: str, kept: int) -> None:
    batch = logs("a", "a", "b", "a", at=time.time_ns(), resource={"service.name": service})
    exporter = LokiExporter("loki", LokiConfig.model_validate({"endpoint": loki.url, "duplicates": duplicates}))
    await exporter.start()
    for _ in range(3):
        await exporter.commit([await exporter.prepare(batch)])
    await exporter.stop()
    until(lambda: len(loki.lines_of(service)) >= kept)
    assert sorted(loki.lines_of(service)) == ["a"] * (kept - 1) + ["b"]


async def test_other_answers(loki: RealLoki) -> None:
    client = LokiClient(LokiConfig(endpoint=loki.url))
    with pytest.raises(RefusedError, match="at least one valid stream is required"):
        await client.push(b"")
    with pytest.raises(RefusedError, match="400"):
        await client.push(b"\xff\xff")
    await client.close()
    client = LokiClient(LokiConfig(endpoint=f"{loki.url}/elsewhere"))
    with pytest.raises(UnavailableError, match="must be the base URL of a Loki"):
        await client.push(b"")
    await client.close()
