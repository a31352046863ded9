"""How the assembly makes the extension ``pipelines``."""

from __future__ import annotations

from typing import Protocol

from gateway.extensions.document_pipelines.config import PipelinesConfig
from gateway.extensions.document_pipelines.service import PipelinesService
from gateway.net.access import Authenticators
from gateway.net.destination import Destination
from gateway.runs import holding


class View(holding.View, Protocol):
    """What it has to know of the hub that it is part of."""

    def front_door(self) -> Destination | None:
        """How the hub is reached by itself."""


def create(name: str, config: PipelinesConfig, view: View, authenticators: Authenticators) -> PipelinesService:
    """Make the service. Raises `ValueError` when the hub has no store to keep runs in."""
    return PipelinesService(name, config, holding.runs_of(name, view), view.operations, lambda: view.front_door())
