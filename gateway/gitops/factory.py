"""How the assembly makes the extension ``gitops``."""

from __future__ import annotations

import uuid
from pathlib import Path

from gateway.gitops.config import GitOpsConfig
from gateway.gitops.service import GitOpsService
from gateway.operations import Operations
from gateway.runs import Runs


def create(
    name: str, config: GitOpsConfig, dsn: str, operations: Operations, data_dir: Path | None = None
) -> GitOpsService:
    """Make the service. ``dsn`` is the store's. With a data directory, runs are resumed at once after a restart."""
    return GitOpsService(name, config, Runs(dsn, holder(data_dir)), operations)


def holder(data_dir: Path | None) -> str | None:
    """Return what tells this hub from others, through its restarts: hubs each have a data directory of their own."""
    if data_dir is None:
        return None
    file = data_dir / "hub.id"
    try:
        with file.open("x", encoding="ascii") as fresh:
            fresh.write(str(uuid.uuid4()))
    except FileExistsError:
        pass
    return file.read_text(encoding="ascii") or None
