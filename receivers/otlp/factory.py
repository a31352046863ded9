"""How the assembly makes an OTLP receiver."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from gateway.component import Consumer, Receiver, Signal
from gateway.net.access import Authenticator
from gateway.net.http_bodies import Bodies
from gateway.net.listeners import ListenerSettings
from receivers.otlp.config import OtlpReceiverConfig
from receivers.otlp.grpc_server import GrpcServer
from receivers.otlp.http_server import HttpServer
from receivers.otlp.receiver import OtlpReceiver, Server


def create(
    name: str,
    config: OtlpReceiverConfig,
    consumer: Consumer,
    *,
    signals: Collection[Signal] = tuple(Signal),
    authenticators: Mapping[str, Authenticator] | None = None,
    bodies: Bodies | None = None,
    reuse_port: bool = False,
) -> Receiver:
    """Make the receiver ``name`` (such as ``otlp`` or ``otlp/internal``); nothing listens before its ``start``.

    ``signals`` are those that there are pipelines for; what comes of others is refused for good.
    ``authenticators`` holds those that the listeners may ask for, by name; ``bodies`` bounds the requests that arrive
    over HTTP, of this receiver and of whoever else has it. ``reuse_port`` lets several processes listen
    on the same ports (``SO_REUSEPORT``), the kernel spreading the connections over them. Every one of them must ask for
    it.
    """

    def wanted_by(listener: ListenerSettings) -> Authenticator | None:
        # One that is missing must stop the start, not open the door.
        return None if listener.auth is None else (authenticators or {})[listener.auth.authenticator]

    protocols = config.protocols
    setting = f"receivers.{name}.protocols"
    servers: list[Server] = []
    if (grpc := protocols.grpc) is not None:
        servers.append(
            GrpcServer(f"{setting}.grpc", grpc, consumer, wanted_by(grpc), signals=signals, reuse_port=reuse_port)
        )
    if (http := protocols.http) is not None:
        servers.append(
            HttpServer(
                f"{setting}.http",
                http,
                consumer,
                wanted_by(http),
                signals=signals,
                bodies=bodies,
                reuse_port=reuse_port,
            )
        )
    return OtlpReceiver(name, servers)
