"""What a redaction is, and how the assembly makes one."""

from __future__ import annotations

from gateway.component import Processor
from gateway.component.declaration import Context, ProcessorComponent
from gateway.processors.redact.config import RedactConfig


def create(name: str, config: RedactConfig, context: Context) -> Processor:
    """Make the processor."""
    from gateway.processors.redact.processor import Redact

    return Redact(name, config)


COMPONENT = ProcessorComponent(settings=RedactConfig, create=create)
"""Redaction: takes out what is not for everybody who reads."""
