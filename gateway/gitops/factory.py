"""How the assembly makes the extension ``gitops``."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from gateway.gitops.config import GitOpsConfig
from gateway.gitops.service import GitOpsService
from gateway.operations import Operations
from gateway.pipeline.access import Authenticators
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


def create(name: str, config: GitOpsConfig, view: View, authenticators: Authenticators) -> GitOpsService:
    """Make the service. Raises `ValueError` when the hub has no store to keep runs in."""
    if view.dsn is None:
        raise ValueError(f"the extension {name} keeps its runs in PostgreSQL: use an exporter of type timescale")
    return GitOpsService(name, config, Runs(lambda: view.dsn or "", holder(view.data_dir)), view.operations)
