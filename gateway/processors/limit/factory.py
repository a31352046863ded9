"""How the assembly makes a limit."""

from __future__ import annotations

from gateway.processors.common.context import ProcessorContext
from gateway.processors.limit.config import LimitConfig
from gateway.processors.limit.processor import Limit


def create(name: str, config: LimitConfig, context: ProcessorContext) -> Limit:
    """Make the processor."""
    return Limit(name, config, context.pipeline)
