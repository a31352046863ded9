from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from gateway.pipeline import Delivery
from tests.unit.pipeline.fakes import FakeExporter, Telemetry

Start = Callable[[FakeExporter], Awaitable[Delivery]]


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture(params=["at once", "in its time"])
async def start(telemetry: Telemetry, request: pytest.FixtureRequest) -> AsyncIterator[Start]:
    """Start the delivery to an exporter, which prepares batches in either way. It is stopped after the test."""
    async with AsyncExitStack() as stack:

        async def start_it(exporter: FakeExporter) -> Delivery:
            exporter.prompt = request.param == "at once"
            delivery = telemetry.delivery(exporter)
            await delivery.start()
            stack.push_async_callback(delivery.stop)
            return delivery

        yield start_it
