"""How the assembly makes a processor of resources."""

from __future__ import annotations

from gateway.processors.common.context import ProcessorContext
from gateway.processors.resource.config import ResourceConfig
from gateway.processors.resource.processor import Resource


def create(name: str, config: ResourceConfig, _context: ProcessorContext) -> Resource:
    """Make the processor."""
    return Resource(name, config)
