"""A consumer that is somewhere else: another hub, Alloy, whatever takes OTLP.

An emitter is given the pipeline of its process, or one of these where its settings or the standard environment
variables name an endpoint. What comes of a batch is told in the same way by both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from gateway.component.batch import Batch, Outcome, Signal
from gateway.component.errors import NoPipelineError
from gateway.component.interfaces import Consumer
from gateway.net.destination import Destination, EmitterSettings, destination, names_endpoint

if TYPE_CHECKING:
    from gateway.net.client import OtlpClient


class RemoteConsumer:
    """Implements `gateway.component.Consumer` by sending to the ``destinations``, each signal to its own.

    ``otherwise`` takes the signals that have none. Nothing is connected before the first batch. Raises `OSError` when a
    certificate cannot be read or used.
    """

    def __init__(self, destinations: Mapping[Signal, Destination], otherwise: Consumer | None = None) -> None:
        from gateway.net.client import check_certificates  # most hubs send nothing elsewhere, and need no client

        for to in destinations.values():
            check_certificates(to)
        self.destinations = destinations
        self._otherwise = otherwise
        self._clients: dict[Signal, OtlpClient] = {}

    async def accept(self, batch: Batch) -> Outcome:
        """Send a batch; return what the other end rejected of it. Raises `DeliveryError` as `OtlpClient.send` does."""
        if (to := self.destinations.get(batch.signal)) is None:
            if self._otherwise is None:
                raise NoPipelineError(batch.signal.value)
            return await self._otherwise.accept(batch)
        if batch.signal not in self._clients:
            from gateway.net.client import connect

            self._clients[batch.signal] = connect(to)
        return await self._clients[batch.signal].send(batch.signal, batch.payload)

    def refuse(self, signal: Signal, reason: str) -> None:
        """Do nothing: who counts refusals is not here."""

    def refuse_connection(self, listener: str, reason: str) -> None:
        """Do nothing, likewise."""

    async def close(self) -> None:
        """Release the connections."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.close()


def consumer_of(settings: EmitterSettings, signals: Collection[Signal], here: Consumer) -> Consumer:
    """Return where an emitter's signals go: to the endpoints that settings or environment name, or else ``here``.

    Raises `DestinationError` for an endpoint that cannot be used, `OSError` for such a certificate.
    """
    named = {signal: destination(settings, signal) for signal in signals if names_endpoint(settings, signal)}
    return RemoteConsumer(named, here) if named else here


def elsewhere(settings: EmitterSettings, signals: Collection[Signal]) -> RemoteConsumer:
    """Return where an emitter's signals go that is in no hub: as above, and else to this machine's standard port."""
    return RemoteConsumer({signal: destination(settings, signal) for signal in signals})


def place_of(consumer: Consumer, signal: Signal) -> str:
    """Say where a consumer puts a signal, for people."""
    to = consumer.destinations.get(signal) if isinstance(consumer, RemoteConsumer) else None
    return "this hub" if to is None else to.endpoint


async def close(consumer: Consumer) -> None:
    """Release a consumer that was made for one emitter. The pipeline is everybody's, and stays."""
    if isinstance(consumer, RemoteConsumer):
        await consumer.close()
