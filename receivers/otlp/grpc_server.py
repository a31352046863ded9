"""OTLP over gRPC: the listener, its connections, and their end.

gRPC's own library for Python is not used to serve: it refuses compressions that it does not know before anything of it
can be reached from Python (``docs/decisions/0017-grpc-over-h2.md``).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection

import structlog

from gateway.component import Consumer, Signal
from gateway.net.access import Authenticator
from gateway.net.binding import BACKLOG, bind, cannot_listen
from gateway.net.certificates import Certificates
from gateway.net.connection_limit import ConnectionLimit
from gateway.net.handshakes import Handshakes
from gateway.net.listeners import join_endpoint, split_endpoint
from receivers.otlp.config import GrpcConfig
from receivers.otlp.grpc_call import DEADLINE, Services
from receivers.otlp.grpc_messages import Bounds
from receivers.otlp.grpc_reflection import Reflection
from receivers.otlp.grpc_services import Health, exports
from receivers.otlp.http2.connection import Connections, Http2Connection
from receivers.otlp.http2.request_head import Heads

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_LAST_WORDS_SECONDS = 1.0
"""How long clients whose request outlived the grace period have to take their answer."""

_INCOMPLETE = 256 * 2**20
"""Bytes held at most of requests that have not arrived whole, of all clients; or twice the largest request."""


class GrpcServer:
    """The gRPC server of one receiver. ``setting`` is where its settings stand, for error messages."""

    protocol = "grpc"

    def __init__(
        self,
        setting: str,
        config: GrpcConfig,
        consumer: Consumer,
        authenticator: Authenticator | None = None,
        *,
        signals: Collection[Signal] = tuple(Signal),
        reuse_port: bool,
    ) -> None:
        self._setting = setting
        self._config = config
        self._reuse_port = reuse_port
        self._health, self._reflection = Health(signals), Reflection(signals)
        limit = config.max_recv_msg_size
        in_all = max(_INCOMPLETE, 2 * limit)
        bounds = Bounds(limit, in_all, f"{setting}.max_recv_msg_size")
        methods = exports(consumer, authenticator, signals) | self._health.methods() | self._reflection.methods()
        self._services = Services(methods, bounds)
        self._admission = ConnectionLimit(setting, config.max_connections, consumer.refuse_connection)
        self._handshakes = Handshakes(setting, config.tls, consumer.refuse_connection)
        self._certificates: Certificates | None = None
        self._sockets: list[socket.socket] = []
        self._listeners: list[asyncio.Server] = []
        self._connections = Connections(Heads(passing={DEADLINE}))
        self.endpoint: str = config.endpoint

    async def bind(self) -> None:
        """Take the address. Raises `OSError` when it cannot be had, or the certificates cannot be used."""
        if self._config.tls is not None:
            self._certificates = Certificates(f"{self._setting}.tls", self._config.tls, alpn="h2")
        try:
            self._sockets = await bind(self._config.endpoint, self._admission, reuse_port=self._reuse_port)
        except OSError as error:
            raise cannot_listen(error, self._config.endpoint, self._setting) from error
        host, _ = split_endpoint(self._config.endpoint)
        self.endpoint = join_endpoint(host, self._sockets[0].getsockname()[1])

    async def serve(self) -> None:
        """Begin to answer requests, and to report ``SERVING``."""
        loop = asyncio.get_running_loop()
        for taken in self._sockets:
            self._listeners.append(await loop.create_server(self._connection, sock=taken, backlog=BACKLOG))

    async def stop(self, grace: float) -> None:
        """Report ``NOT_SERVING``, refuse new requests, finish those in flight within ``grace`` seconds.

        A request that is still in flight then is answered ``UNAVAILABLE``, which OTLP clients retry.
        """
        self._health.stop()
        self._reflection.stop()
        self._connections.draining = True
        for listener in self._listeners:
            listener.close()
        for taken in self._sockets:
            taken.close()
        self._listeners, self._sockets = [], []
        for connection in tuple(self._connections.open):
            connection.drain()
        if await self._connections.gone(grace):
            return
        _log.warning(
            "requests still in flight after the grace period are cancelled", requests=len(self._services.tasks)
        )
        for connection in tuple(self._connections.open):
            connection.shut_down()
        if not await self._connections.gone(_LAST_WORDS_SECONDS):
            for connection in tuple(self._connections.open):
                connection.abort()
            await self._connections.gone(_LAST_WORDS_SECONDS)

    def _connection(self) -> asyncio.BaseProtocol:
        protocol = Http2Connection(
            self._services.open,
            self._connections,
            self._config.max_concurrent_streams,
            handshakes=self._handshakes,
        )
        return protocol if self._certificates is None else self._handshakes.wrap(protocol, self._certificates)
