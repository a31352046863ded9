"""What a limit is, and how the assembly makes one."""

from __future__ import annotations

from gateway.component import Processor
from gateway.component.declaration import Context, ProcessorComponent
from gateway.processors.limit.config import LimitConfig


def create(name: str, config: LimitConfig, context: Context) -> Processor:
    """Make the processor."""
    from gateway.processors.limit.processor import Limit

    return Limit(name, config, context.pipeline)


COMPONENT = ProcessorComponent(settings=LimitConfig, create=create)
"""The limit: so many records a second of each service."""
