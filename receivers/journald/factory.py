"""What a journal receiver is, and how the assembly makes one."""

from __future__ import annotations

from gateway.component import Consumer, Receiver, Signal
from gateway.component.declaration import Context, ReceiverComponent
from receivers.journald.config import JournaldConfig


def create(name: str, config: JournaldConfig, consumer: Consumer, context: Context) -> Receiver:
    """Make the receiver ``name`` (such as ``journald``); nothing is read before its ``start``.

    Its state is how far it has come; where it can keep none, each start is the first.
    """
    from receivers.journald.receiver import JournaldReceiver

    return JournaldReceiver(name, config, consumer, context.state_dir)


COMPONENT = ReceiverComponent(settings=JournaldConfig, create=create, signals=frozenset({Signal.LOGS}))
