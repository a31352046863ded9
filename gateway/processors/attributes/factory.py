"""What a processor of attributes is, and how the assembly makes one."""

from __future__ import annotations

from gateway.component import Processor
from gateway.component.declaration import Context, ProcessorComponent
from gateway.processors.attributes.config import AttributesConfig


def create(name: str, config: AttributesConfig, context: Context) -> Processor:
    """Make the processor."""
    from gateway.processors.attributes.processor import Attributes

    return Attributes(name, config, context.signal)


COMPONENT = ProcessorComponent(settings=AttributesConfig, create=create)
"""The processor of attributes: changes those of records."""
