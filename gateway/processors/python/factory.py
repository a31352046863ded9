"""How the assembly makes a function a processor."""

from __future__ import annotations

from gateway.processors.common.context import ProcessorContext
from gateway.processors.python.config import PythonConfig
from gateway.processors.python.processor import Python


def create(name: str, config: PythonConfig, context: ProcessorContext) -> Python:
    """Make the processor."""
    return Python(name, config, context)
