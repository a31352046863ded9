"""What a processor of resources is, and how the assembly makes one."""

from __future__ import annotations

from gateway.component import Processor
from gateway.component.declaration import Context, ProcessorComponent
from gateway.processors.resource.config import ResourceConfig


def create(name: str, config: ResourceConfig, context: Context) -> Processor:
    """Make the processor."""
    from gateway.processors.resource.processor import Resource

    return Resource(name, config)


COMPONENT = ProcessorComponent(settings=ResourceConfig, create=create)
"""The processor of resources: changes their attributes."""
