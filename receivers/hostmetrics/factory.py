"""How the assembly makes a host metrics receiver."""

from __future__ import annotations

from gateway.pipeline import Consumer, Receiver
from receivers.hostmetrics.config import HostMetricsConfig
from receivers.hostmetrics.receiver import HostMetricsReceiver


def create(name: str, config: HostMetricsConfig, consumer: Consumer | None = None) -> Receiver:
    """Make the receiver ``name`` (such as ``hostmetrics``); nothing is collected before its ``start``.

    ``consumer`` is what every receiver is given and goes unused: like all emitters this one sends OTLP to an endpoint.
    """
    return HostMetricsReceiver(name, config)
