"""The processor of resources: actions done to each resource. Records are not looked at."""

from __future__ import annotations

from typing import Any

from gateway.component.batch import Batch
from gateway.processors.common.actions import Actions
from gateway.processors.common.editing import Editor, Verdict
from gateway.processors.common.messages import RESOURCE
from gateway.processors.common.processor import EditingProcessor
from gateway.processors.resource.config import ResourceConfig

_MOST_KNOWN = 1000
_MOST_BYTES = 4096
"""How many resources are remembered, of how many bytes each at most: some MiB. A client sends the same ones always."""


class Resource(EditingProcessor):
    """Changes the attributes of resources."""

    def __init__(self, name: str, config: ResourceConfig) -> None:
        super().__init__(name)
        self._config = config
        self._actions = Actions(config.attributes, config.hash_secret)
        self._known: dict[bytes, bytes] = {}

    def reconfigure(self, settings: ResourceConfig) -> bool:
        """Hash by another secret from now on."""
        self._actions = Actions(self._config.attributes, settings.hash_secret)
        self._known = {}
        return True

    def editor(self, batch: Batch) -> Editor:
        """Return what does the actions to one batch."""
        return _Changing(self._actions, self._known)


class _Changing(Editor):
    def __init__(self, actions: Actions, known: dict[bytes, bytes]) -> None:
        self._actions = actions
        self._known = known

    def resource(self, resource: Any) -> Verdict:
        raw = resource.resource
        made = self._known.get(raw)
        if made is None:
            message = RESOURCE.FromString(raw)
            made = message.SerializeToString() if self._actions.apply(message.attributes) else raw
            if len(raw) <= _MOST_BYTES:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known[raw] = made
        if made != raw:
            resource.resource = made
            self.changed = True
        return Verdict.KEEP
