"""What services know of the hub that they run in."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from gateway.component import Consumer
from gateway.component.declaration import Context
from gateway.component.interfaces import Service
from gateway.config import Config
from gateway.operations import Operations
from gateway.pipeline import Delivery

if TYPE_CHECKING:
    from litestar import Router


@runtime_checkable
class HasRouters(Protocol):
    """A service with routes of its own under ``/api/v1``."""

    def routers(self) -> Sequence[Router]:
        """Make them. Each handler's ``opt["scope"]`` says who may call it; None stands for everybody."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HubView(Context):
    """The hub as parts of the gateway may look at it that run beside its pipelines.

    ``deliveries`` are those of this process: with several workers there are none here, and what they do is seen on disk
    only. ``dropped`` returns how many records the processors of this process left out, by pipeline and processor.
    ``consumer`` is the pipelines of this process, ``endpoints`` where the hub listens. ``services`` are those made so
    far: all others, for the API front.
    """

    config: Config
    deliveries: Mapping[str, Delivery] = field(default_factory=dict)
    dropped: Callable[[], Mapping[str, Mapping[str, int]]] = field(default=dict)
    endpoints: Callable[[], Mapping[str, str]] = field(default=dict)
    consumer: Consumer
    find_dsn: Callable[[], str | None] = field(default=lambda: None, repr=False)
    make_operations: Callable[[], Operations] = Operations
    services: Mapping[str, Service] = field(default_factory=dict)
    shared: bool = False
    """Whether other processes of this hub receive and deliver."""
    started_at: float = field(default_factory=time.monotonic)

    @property
    def dsn(self) -> str | None:
        """The store's connection string as it is now: its password may be rotated."""
        return self.find_dsn()

    @property
    def operations(self) -> Operations:
        """What a service tells about its work with. Made when the first asks: a hub without such work has no threads
        for it."""
        return self.make_operations()
