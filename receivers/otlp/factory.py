"""How the assembly makes an OTLP receiver."""

from __future__ import annotations

from gateway.pipeline import Consumer, Receiver
from receivers.otlp.config import OtlpReceiverConfig
from receivers.otlp.grpc_server import GrpcServer
from receivers.otlp.http_server import HttpServer
from receivers.otlp.receiver import OtlpReceiver, Server


def create(name: str, config: OtlpReceiverConfig, consumer: Consumer, *, reuse_port: bool = False) -> Receiver:
    """Make the receiver ``name`` (such as ``otlp`` or ``otlp/internal``); nothing listens before its ``start``.

    ``reuse_port`` lets several processes listen on the same ports (``SO_REUSEPORT``), the kernel spreading the
    connections over them. Every one of them must ask for it.
    """
    protocols = config.protocols
    setting = f"receivers.{name}.protocols"
    servers: list[Server] = []
    if protocols.grpc is not None:
        servers.append(GrpcServer(f"{setting}.grpc", protocols.grpc, consumer, reuse_port=reuse_port))
    if protocols.http is not None:
        servers.append(HttpServer(f"{setting}.http", protocols.http, consumer, reuse_port=reuse_port))
    return OtlpReceiver(name, servers)
