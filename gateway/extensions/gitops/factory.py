"""How the assembly makes the extension ``gitops``."""

from __future__ import annotations

from gateway.extensions.gitops.config import GitOpsConfig
from gateway.extensions.gitops.service import GitOpsService
from gateway.net.access import Authenticators
from gateway.runs.holding import View, runs_of


def create(name: str, config: GitOpsConfig, view: View, authenticators: Authenticators) -> GitOpsService:
    """Make the service. Raises `ValueError` when the hub has no store to keep runs in."""
    return GitOpsService(name, config, runs_of(name, view), view.operations)
