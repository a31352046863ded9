"""How the assembly makes a processor of attributes."""

from __future__ import annotations

from gateway.processors.attributes.config import AttributesConfig
from gateway.processors.attributes.processor import Attributes
from gateway.processors.common.context import ProcessorContext


def create(name: str, config: AttributesConfig, context: ProcessorContext) -> Attributes:
    """Make the processor."""
    return Attributes(name, config, context.signal)
