"""What goes wrong with one document. What goes wrong with all of them is `gateway.component.documents`'s."""

from __future__ import annotations


class DocumentError(ValueError):
    """A document cannot be made an event. The message becomes the reason beside it."""
