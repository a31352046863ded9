"""How the assembly makes a redaction."""

from __future__ import annotations

from gateway.processors.common.context import ProcessorContext
from gateway.processors.redact.config import RedactConfig
from gateway.processors.redact.processor import Redact


def create(name: str, config: RedactConfig, _context: ProcessorContext) -> Redact:
    """Make the processor."""
    return Redact(name, config)
