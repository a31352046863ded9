"""What the API knows of the hub it is part of."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from opentelemetry.trace import Tracer

from gateway.config import Config
from gateway.pipeline import Delivery
from gateway.pipeline.destination import Destination


@dataclass(frozen=True, slots=True)
class HubView:
    """The hub as parts of the gateway may look at it that run beside its pipelines.

    ``deliveries`` are those of this process: with several workers there are none here, and what they do is seen on disk
    only. ``front_door`` returns how this hub is reached by itself, ``endpoints`` where it listens.
    """

    config: Config
    data_dir: Path | None
    dsn: str | None = field(repr=False)
    tracer: Tracer
    deliveries: Mapping[str, Delivery]
    endpoints: Callable[[], Mapping[str, str]]
    front_door: Callable[[], Destination | None] = field(repr=False)
    shared: bool = False
    """Whether other processes of this hub receive and deliver."""
    started_at: float = field(default_factory=time.monotonic)
