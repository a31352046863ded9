"""What most processors have in common: they edit each batch by itself, and have nothing to start or stop."""

from __future__ import annotations

from dataclasses import replace

from gateway.base.slices import in_slices
from gateway.component.batch import Batch
from gateway.component.interfaces import Processed
from gateway.processors.common.editing import Edited, Editor, edit


class EditingProcessor:
    """Base of processors that make an editor for each batch."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        """The component's name in the configuration."""
        return self._name

    async def start(self) -> None:
        """Nothing is to be done."""

    async def stop(self) -> None:
        """Nothing is to be done."""

    def editor(self, batch: Batch) -> Editor | None:
        """Return what edits a batch; None where that would change nothing, as its bytes tell."""
        raise NotImplementedError

    async def process(self, batch: Batch) -> Processed:
        """Edit a batch, in slices."""
        editor = self.editor(batch)
        if editor is None:
            return Processed(batch)
        return await edited(batch, editor)


async def edited(batch: Batch, editor: Editor) -> Processed:
    """Return what an editor makes of a batch, in slices."""
    return processed(batch, await in_slices(edit(batch, editor)))


def processed(batch: Batch, edited: Edited) -> Processed:
    """Return what is left of a batch."""
    if edited.payload is None:
        return Processed(None, edited.dropped)
    if edited.payload is batch.payload:
        return Processed(batch)
    return Processed(replace(batch, payload=edited.payload), edited.dropped)
