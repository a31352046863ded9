"""How the assembly makes a filter."""

from __future__ import annotations

from gateway.processors.common.context import ProcessorContext
from gateway.processors.filter.config import FilterConfig
from gateway.processors.filter.processor import Filter


def create(name: str, config: FilterConfig, _context: ProcessorContext) -> Filter:
    """Make the processor."""
    return Filter(name, config)
