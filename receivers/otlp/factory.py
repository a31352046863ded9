"""What an OTLP receiver is, and how the assembly makes one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.component import Consumer, Receiver
from gateway.component.declaration import Context, ReceiverComponent
from gateway.net.access import Authenticator
from gateway.net.listeners import ListenerSettings
from receivers.otlp.config import OtlpReceiverConfig

if TYPE_CHECKING:
    from receivers.otlp.receiver import Server


def create(name: str, config: OtlpReceiverConfig, consumer: Consumer, context: Context) -> Receiver:
    """Make the receiver ``name`` (such as ``otlp`` or ``otlp/internal``); nothing listens before its ``start``.

    What comes of signals that there is no pipeline for is refused for good.
    """
    from receivers.otlp.grpc_server import GrpcServer
    from receivers.otlp.http_server import HttpServer
    from receivers.otlp.receiver import OtlpReceiver

    def wanted_by(listener: ListenerSettings) -> Authenticator | None:
        # One that is missing must stop the start, not open the door.
        return None if listener.auth is None else context.authenticators[listener.auth.authenticator]

    protocols = config.protocols
    setting = f"receivers.{name}.protocols"
    servers: list[Server] = []
    if (grpc := protocols.grpc) is not None:
        servers.append(
            GrpcServer(
                f"{setting}.grpc",
                grpc,
                consumer,
                wanted_by(grpc),
                signals=context.signals,
                reuse_port=context.reuse_port,
            )
        )
    if (http := protocols.http) is not None:
        servers.append(
            HttpServer(
                f"{setting}.http",
                http,
                consumer,
                wanted_by(http),
                signals=context.signals,
                bodies=context.bodies,
                reuse_port=context.reuse_port,
            )
        )
    return OtlpReceiver(name, servers)


COMPONENT = ReceiverComponent(settings=OtlpReceiverConfig, create=create, listens=True)
