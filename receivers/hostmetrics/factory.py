"""How the assembly makes a host metrics receiver."""

from __future__ import annotations

from pathlib import Path

from gateway.component import Receiver
from receivers.hostmetrics.config import HostMetricsConfig
from receivers.hostmetrics.receiver import HostMetricsReceiver


def create(name: str, config: HostMetricsConfig, state_dir: Path | None = None) -> Receiver:
    """Make the receiver ``name`` (such as ``hostmetrics``); nothing is collected before its ``start``.

    ``state_dir`` is what every emitter is given and goes unused: this one has nothing to remember.
    """
    return HostMetricsReceiver(name, config)
