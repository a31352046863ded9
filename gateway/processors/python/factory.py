"""What a processor of a function is, and how the assembly makes one."""

from __future__ import annotations

from gateway.component import Processor
from gateway.component.declaration import Context, ProcessorComponent
from gateway.processors.python.config import PythonConfig


def create(name: str, config: PythonConfig, context: Context) -> Processor:
    """Make the processor."""
    from gateway.processors.python.processor import Python

    return Python(name, config, context)


COMPONENT = ProcessorComponent(settings=PythonConfig, create=create)
"""A function of yours as a processor."""
