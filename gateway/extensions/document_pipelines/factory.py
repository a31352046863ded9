"""What the extension ``pipelines`` is, and how the assembly makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.component.declaration import ExtensionComponent
from gateway.extensions.document_pipelines.config import PipelinesConfig

if TYPE_CHECKING:
    from gateway.extensions.document_pipelines.service import PipelinesService
    from gateway.extensions.view import HubView


def create(name: str, config: PipelinesConfig, view: HubView) -> PipelinesService:
    """Make the service. Raises `ValueError` when the hub has no store to keep runs in."""
    from gateway.extensions.document_pipelines.service import PipelinesService
    from gateway.runs.hub_id import runs_of

    return PipelinesService(name, config, runs_of(name, view), view.operations, view.consumer)


COMPONENT = ExtensionComponent(settings=PipelinesConfig, create=create)
