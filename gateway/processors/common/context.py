"""What a processor is told of the pipeline that it is made for."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.component.batch import Signal


@dataclass(frozen=True, slots=True)
class ProcessorContext:
    """The name of the pipeline in the configuration, such as ``logs/audit``, and its signal."""

    pipeline: str
    signal: Signal
