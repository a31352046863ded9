"""What goes wrong between MongoDB and OTLP."""

from __future__ import annotations


class SourceError(Exception):
    """MongoDB cannot be read or written. The message says why and what to do, and holds no password."""


class NoChangeStreamsError(Exception):
    """The server has no change streams, or does not let this user follow them."""


class DestinationError(Exception):
    """Events cannot be sent now. Their documents stay ``ingested``."""


class DocumentError(ValueError):
    """A document cannot be made an event. The message becomes the reason beside it."""
