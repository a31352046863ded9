"""The gateway's encode path under cProfile, in this process: nothing received, nothing stored, bytes into rows."""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import time

from exporters.timescale.config import TimescaleConfig
from exporters.timescale.exporter import TimescaleExporter
from gateway.component import Batch, Signal
from tests.bench.payloads import Payloads, first_time

_SECONDS = 3.0
_TOP = 25


def profile(signal: Signal, records: int, series: int) -> None:
    """Print where the time goes, and the rate without the profiler, which slows functions down unevenly."""
    asyncio.run(_profile(signal, records, series))


async def _profile(signal: Signal, records: int, series: int) -> None:
    payloads = Payloads(signal, records, series, first_time())
    exporter = TimescaleExporter("timescale", TimescaleConfig(), "")
    warm_up = max(series // records if signal is Signal.METRICS else 0, 4)
    requests = [payloads.request(number) for number in range(warm_up + 16)]

    async def encode(payload: bytes) -> None:
        await exporter.prepare(Batch.of(signal, payload))

    for payload in requests[:warm_up]:
        await encode(payload)
    encoded, began = 0, time.process_time()
    while time.process_time() - began < _SECONDS:
        await encode(requests[warm_up + encoded % 16])
        encoded += 1
    rate = encoded * payloads.records / (time.process_time() - began)
    print(f"{rate:,.0f} {signal.records} a CPU second, digest and encoding alone\n")

    profiler = cProfile.Profile()
    profiler.enable()
    for number in range(encoded // 2):
        await encode(requests[warm_up + number % 16])
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(_TOP)
