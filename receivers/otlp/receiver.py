"""The receiver: the servers of its protocols, started and stopped as one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol


class Server(Protocol):
    """The server of one protocol."""

    @property
    def protocol(self) -> str:
        """The protocol's name in the configuration."""
        ...

    @property
    def endpoint(self) -> str:
        """Where it listens, as ``host:port``; once bound, with the real port."""
        ...

    async def bind(self) -> None:
        """Take the address. Raises `OSError` when it cannot be had, saying why and which setting to change."""
        ...

    async def serve(self) -> None:
        """Begin to answer requests on the bound address."""
        ...

    async def stop(self, grace: float) -> None:
        """Take no more requests, finish those in flight within ``grace`` seconds. Harmless when not bound."""
        ...


class OtlpReceiver:
    """The OTLP receiver, as `gateway.pipeline.Receiver` describes it."""

    def __init__(self, name: str, servers: Sequence[Server]) -> None:
        self._name = name
        self._servers = servers

    @property
    def name(self) -> str:
        """The component's name in the configuration."""
        return self._name

    @property
    def endpoints(self) -> dict[str, str]:
        """``host:port`` by protocol, ``grpc`` and ``http``. With port 0, the real one once started."""
        return {server.protocol: server.endpoint for server in self._servers}

    async def start(self) -> None:
        """Listen and serve. Raises `OSError` when an address is taken; then nothing listens."""
        try:
            # All addresses first: a receiver that cannot have one of them must not have acknowledged anything yet.
            for server in self._servers:
                await server.bind()
            for server in self._servers:
                await server.serve()
        except BaseException:
            await self.stop(0)
            raise

    async def stop(self, grace: float) -> None:
        """Stop all servers side by side: nothing new is taken, requests in flight have ``grace`` seconds."""
        await asyncio.gather(*(server.stop(grace) for server in self._servers))
