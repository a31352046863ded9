"""What the extension ``gate`` is. The hub never makes it: ``obs-hub gate run`` is a process of its own."""

from __future__ import annotations

from gateway.component.declaration import ExtensionComponent
from gateway.extensions.gate.config import GateConfig

COMPONENT = ExtensionComponent(settings=GateConfig, command="obs-hub gate run")
