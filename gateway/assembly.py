"""The assembly: from a configuration to a running hub, and back to nothing.

It is the only module that knows every part. A hub starts from the store outwards, so that whoever is let in finds
everything ready, and stops from the listeners inwards, so that whatever was let in is answered for.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

from gateway import components
from gateway.config import Config
from gateway.pipeline import Delivery, Exporter, Instruments, Pipeline, Receiver, Signal
from gateway.telemetry import SelfTelemetry

_log = logging.getLogger(__name__)


class Role(enum.Enum):
    """Which receivers a process runs: with several workers, those that listen run in each, emitters in one."""

    ALL = "all"
    LISTENERS = "listeners"
    EMITTERS = "emitters"


def needs_embedded(config: Config) -> bool:
    """Tell whether an exporter in use stores into the embedded PostgreSQL, because it names no server."""
    used = (config.exporters[name] for name in config.used_exporters)
    return any(hasattr(settings, "dsn") and settings.dsn is None for settings in used)


def configured_dsn(config: Config) -> str | None:
    """Return the connection string of the first exporter that names a PostgreSQL server."""
    for name in config.used_exporters:
        secret = getattr(config.exporters[name], "dsn", None)
        if secret is not None:
            return str(secret.get_secret_value())
    return None


class Hub:
    """Receivers, pipeline and exporters of one process, as the configuration wires them."""

    def __init__(
        self, config: Config, *, embedded_dsn: str | None = None, role: Role = Role.ALL, reuse_port: bool = False
    ) -> None:
        self._config = config
        service = config.service
        self._grace: timedelta = service.delivery.shutdown_grace
        self._telemetry = SelfTelemetry(service.telemetry, self._own_endpoint)
        instruments = Instruments(self._telemetry.meter)
        self._deliveries = {
            name: Delivery(
                components.create_exporter(name, config.exporters[name], embedded_dsn),
                instruments,
                self._telemetry.tracer,
            )
            for name in config.used_exporters
            if role is not Role.EMITTERS
        }
        for delivery in self._deliveries.values():
            _observe(delivery.exporter, instruments)
        routes = {
            Signal(signal): [self._deliveries[name] for name in pipeline.exporters if name in self._deliveries]
            for signal, pipeline in service.pipelines.items()
        }
        self._pipeline = Pipeline(routes, service.delivery.max_in_flight, instruments)
        self._receivers: dict[str, Receiver] = {
            name: components.create_receiver(name, config.receivers[name], self._pipeline, reuse_port=reuse_port)
            for name in config.used_receivers
            if role is Role.ALL or components.listens(name) == (role is Role.LISTENERS)
        }

    @property
    def endpoints(self) -> dict[str, str]:
        """Where this hub listens: for each receiver and protocol (``otlp grpc``) the address."""
        return {
            f"{name} {protocol}": address
            for name, receiver in self._receivers.items()
            for protocol, address in receiver.endpoints.items()
        }

    def _own_endpoint(self) -> str | None:
        for name, address in self.endpoints.items():
            if name.endswith(" grpc"):
                host, _, port = address.rpartition(":")
                return f"http://{host or '127.0.0.1'}:{port}"
        return None

    async def start(self) -> None:
        """Start everything. Raises `OSError` when an address is taken, and then has stopped what it had started."""
        try:
            for delivery in self._deliveries.values():
                await delivery.start()
            # Listeners first: emitters send to them.
            for receiver in sorted(self._receivers.values(), key=lambda each: not components.listens(each.name)):
                await receiver.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop everything within the configured grace.

        Emitters flush, listeners take nothing new, what is in flight is stored and answered for, exporters end.
        """
        deadline = time.monotonic() + self._grace.total_seconds()

        def left(share: float = 1.0) -> float:
            return max((deadline - time.monotonic()) * share, 0.1)

        emitters = [each for each in self._receivers.values() if not components.listens(each.name)]
        listeners = [each for each in self._receivers.values() if components.listens(each.name)]
        for receiver in emitters:
            await self._bounded(receiver.stop(left(0.3)), f"stopping {receiver.name}")
        await self._bounded(asyncio.to_thread(self._telemetry.flush_and_stop, left(0.3)), "flushing telemetry")
        await asyncio.gather(
            *(self._bounded(receiver.stop(left(0.8)), f"stopping {receiver.name}") for receiver in listeners)
        )
        if not await self._pipeline.drain(left(0.8)):
            _log.warning("the time to finish is over; batches still in flight are refused, their senders keep them")
        for delivery in self._deliveries.values():
            await self._bounded(delivery.stop(), f"stopping {delivery.exporter.name}")

    async def _bounded(self, step: Awaitable[object], what: str) -> None:
        """Await one step of the shutdown; what fails is logged, because the steps after it must still be done."""
        try:
            await step
        except Exception:
            _log.exception("%s failed", what)


def _observe(exporter: Exporter, instruments: Instruments) -> None:
    """Report what an exporter says of itself."""

    def reader(name: str) -> Callable[[], float]:
        return lambda: exporter.gauges()[name]

    for name in exporter.gauges():
        instruments.observe(name, "{entry}", f"Reported by exporter {exporter.name}", reader(name))


@contextlib.asynccontextmanager
async def running(hub: Hub) -> AsyncIterator[Hub]:
    """Run a hub for the length of a block."""
    await hub.start()
    try:
        yield hub
    finally:
        await hub.stop()
