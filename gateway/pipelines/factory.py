"""How the assembly makes the extension ``pipelines``."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from gateway.operations import Operations
from gateway.pipeline.access import Authenticators
from gateway.pipeline.destination import Destination
from gateway.pipelines.config import PipelinesConfig
from gateway.pipelines.service import PipelinesService
from gateway.runs import Runs, holder


class View(Protocol):
    """What it has to know of the hub that it is part of."""

    @property
    def data_dir(self) -> Path | None:
        """The hub's data directory."""

    @property
    def dsn(self) -> str | None:
        """The connection string of its store."""

    @property
    def operations(self) -> Operations:
        """What it tells about itself with."""

    def front_door(self) -> Destination | None:
        """How the hub is reached by itself."""


def create(name: str, config: PipelinesConfig, view: View, authenticators: Authenticators) -> PipelinesService:
    """Make the service. Raises `ValueError` when the hub has no store to keep runs in."""
    if view.dsn is None:
        raise ValueError(f"the extension {name} keeps its runs in PostgreSQL: use an exporter of type timescale")
    runs = Runs(lambda: view.dsn or "", holder(view.data_dir))
    return PipelinesService(name, config, runs, view.operations, lambda: view.front_door())
