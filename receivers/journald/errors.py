"""What keeps the journal from being read."""

from __future__ import annotations


class JournalError(OSError):
    """The journal cannot be read, or its position not be kept. The message says why and what to do."""
