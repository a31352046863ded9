"""What a hub has in memory while somebody sends it requests that are small, and a great deal when they are decoded."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import zstandard

from gateway.otlp.wire_format import length_delimited
from tests.integration.cli.processes import HubProcess, config_text, hubs
from tests.support.telemetry import logs, now
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read from /proc")

MIB = 2**20
ZSTD = {"content-type": "application/x-protobuf", "content-encoding": "zstd"}
NOW = b"\x09" + now().to_bytes(8, "little")

EMPTY_RECORDS = length_delimited(1, length_delimited(2, b"\x12\0" * 240_000) * 34)
"""34 scopes of 240,000 log records of nothing."""


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with hubs() as started:
        yield started.start(config_text()).until_ready()


def large_text(number: int, size: int) -> bytes:
    """A log record of a text that no other number makes, compressed to nearly nothing."""
    text = length_delimited(5, length_delimited(1, b"%08d" % number * (size // 8)))
    payload = length_delimited(1, length_delimited(2, length_delimited(2, NOW + text)))
    return zstandard.ZstdCompressor(level=1, write_content_size=False).compress(payload)


class Peak:
    """The most memory that a process has had since this was made, and what it had then."""

    def __init__(self, process: HubProcess) -> None:
        self._folder = Path(f"/proc/{process.pid}")
        (self._folder / "clear_refs").write_text("5")  # proc(5): begin anew with VmHWM
        self._began = psutil.Process(process.pid).memory_info().rss

    @property
    def growth(self) -> int:
        status = (self._folder / "status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 - self._began


async def attack(hub: HubProcess, bodies: list[bytes]) -> tuple[collections.Counter[int], int]:
    """Send bodies, each on a connection of its own, all at once; meanwhile somebody sends small requests.

    Returns the statuses of the answers, and how many of the small requests were stored meanwhile.
    """
    url = f"http://{hub.running.endpoints['otlp http']}/v1/logs"
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=PATIENCE, limits=limits) as client:
        sent = [asyncio.create_task(client.post(url, content=body, headers=ZSTD)) for body in bodies]
        served = 0
        while not all(each.done() for each in sent):
            payload = logs(f"good {served}").payload
            answer = await client.post(url, content=payload, headers={"content-type": "application/x-protobuf"})
            served += answer.status_code == 200
        return collections.Counter([(await each).status_code for each in sent]), served


async def test_a_request_of_millions_of_empty_records_is_refused_in_memory_that_hardly_grows(hub: HubProcess) -> None:
    body = zstandard.ZstdCompressor(level=19, write_content_size=False).compress(EMPTY_RECORDS)
    assert len(body) < 2_000
    assert len(EMPTY_RECORDS) > 16_000_000
    peak = Peak(hub)
    answers, served = await attack(hub, [body])
    assert answers == {413: 1}
    assert served
    assert peak.growth < 200 * MIB


async def test_many_large_requests_at_once_are_held_to_what_all_may_have(hub: HubProcess) -> None:
    """Each is within its bounds; without one over all, what they are decompressed would be there at once: 1.1 GiB."""
    bodies = [large_text(number, 15 * MIB) for number in range(76)]
    peak = Peak(hub)
    answers, served = await attack(hub, bodies)
    assert set(answers) <= {200, 429}
    assert answers[200]
    assert answers[429]
    assert served
    assert peak.growth < 1000 * MIB
