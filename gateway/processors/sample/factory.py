"""What a sampler is, and how the assembly makes one."""

from __future__ import annotations

from gateway.component import Processor, Signal
from gateway.component.declaration import Context, ProcessorComponent
from gateway.processors.sample.config import SampleConfig


def create(name: str, config: SampleConfig, context: Context) -> Processor:
    """Make the processor."""
    from gateway.processors.sample.processor import Sample

    return Sample(name, config)


COMPONENT = ProcessorComponent(settings=SampleConfig, create=create, signals=frozenset({Signal.LOGS, Signal.TRACES}))
"""Sampling: keeps a part of all traces and logs."""
