"""What the command line calls: collecting without a gateway in the process."""

from __future__ import annotations

import threading

from receivers.hostmetrics.config import HostMetricsConfig
from receivers.hostmetrics.emitter import Emitter
from receivers.hostmetrics.sender import destination

SAMPLING = 0.5
"""Seconds between the two readings that a single collection takes utilisation from."""

GRACE = 5.0
"""Seconds that a last export may take when told to end."""

_LOOK = 1.0
"""Seconds after which the main thread looks at the latest whether a signal came."""


def run_once(config: HostMetricsConfig) -> bool:
    """Collect and send once. Returns whether the destination accepted it; if not, the log says why.

    Takes half a second, plus at most the configured timeout. Raises `ValueError` when the environment names a
    destination that cannot be used.
    """
    return Emitter(config, destination(config)).once(SAMPLING)


def run_forever(config: HostMetricsConfig, stop: threading.Event) -> None:
    """Collect and send at the configured interval until ``stop`` is set, from a signal handler for instance.

    Raises `ValueError` when the environment names a destination that cannot be used.
    """
    emitter = Emitter(config, destination(config))
    emitter.start()
    # A signal that comes just before a wait begins, or is taken by another thread, does not interrupt that wait: its
    # handler runs when the main thread next does something.
    while not stop.wait(_LOOK):
        pass
    emitter.stop(GRACE)
