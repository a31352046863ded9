"""What the extension ``gitops`` is, and how the assembly makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.component.declaration import ExtensionComponent
from gateway.extensions.gitops.config import GitOpsConfig

if TYPE_CHECKING:
    from gateway.extensions.gitops.service import GitOpsService
    from gateway.extensions.view import HubView


def create(name: str, config: GitOpsConfig, view: HubView) -> GitOpsService:
    """Make the service. Raises `ValueError` when the hub has no store to keep runs in."""
    from gateway.extensions.gitops.service import GitOpsService
    from gateway.runs.hub_id import runs_of

    return GitOpsService(name, config, runs_of(name, view), view.operations)


COMPONENT = ExtensionComponent(settings=GitOpsConfig, create=create)
