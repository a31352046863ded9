"""What a host metrics receiver is, and how the assembly makes one."""

from __future__ import annotations

from gateway.component import Consumer, Receiver, Signal
from gateway.component.declaration import Context, ReceiverComponent
from receivers.hostmetrics.config import HostMetricsConfig


def create(name: str, config: HostMetricsConfig, consumer: Consumer, context: Context) -> Receiver:
    """Make the receiver ``name`` (such as ``hostmetrics``); nothing is collected before its ``start``."""
    from receivers.hostmetrics.receiver import HostMetricsReceiver

    return HostMetricsReceiver(name, config, consumer)


COMPONENT = ReceiverComponent(settings=HostMetricsConfig, create=create, signals=frozenset({Signal.METRICS}))
