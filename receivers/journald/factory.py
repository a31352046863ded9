"""How the assembly makes a journal receiver."""

from __future__ import annotations

from pathlib import Path

from gateway.component import Receiver
from receivers.journald.config import JournaldConfig
from receivers.journald.receiver import JournaldReceiver


def create(name: str, config: JournaldConfig, state_dir: Path | None = None) -> Receiver:
    """Make the receiver ``name`` (such as ``journald``); nothing is read before its ``start``.

    ``state_dir`` is where it keeps how far it has come; without it, each start is the first.
    """
    return JournaldReceiver(name, config, state_dir)
