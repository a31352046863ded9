"""What a filter is, and how the assembly makes one."""

from __future__ import annotations

from gateway.component import Processor
from gateway.component.declaration import Context, ProcessorComponent
from gateway.processors.filter.config import FilterConfig


def create(name: str, config: FilterConfig, context: Context) -> Processor:
    """Make the processor."""
    from gateway.processors.filter.processor import Filter

    return Filter(name, config)


COMPONENT = ProcessorComponent(settings=FilterConfig, create=create)
"""The filter: leaves records out by conditions."""
