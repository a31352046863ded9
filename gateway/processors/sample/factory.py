"""How the assembly makes a sampler."""

from __future__ import annotations

from gateway.processors.common.context import ProcessorContext
from gateway.processors.sample.config import SampleConfig
from gateway.processors.sample.processor import Sample


def create(name: str, config: SampleConfig, _context: ProcessorContext) -> Sample:
    """Make the processor."""
    return Sample(name, config)
