"""Settings of sampling."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.component.batch import Signal
from gateway.component.declaration import ProcessorSettings
from gateway.processors.common.config import ConditionText

Ratio = Annotated[float, Field(ge=0, le=1)]
Level = Literal["trace", "debug", "info", "warn", "error", "fatal"]


class SampleConfig(ProcessorSettings):
    """Keeps a part of all traces, and of log records by their traces and severities."""

    ratio: Ratio = 1.0
    """The part that is kept, 0 to 1. All spans of a trace are kept, or none, and its log records with it."""
    mode: Literal["proportional", "equalizing"] = "proportional"
    """For spans that were sampled before, as their ``tracestate`` says. ``proportional``: the part of those that come.
    ``equalizing``: the part of those that there ever were, so that what was sampled enough is kept."""
    by_severity: dict[Level, Ratio] = Field(default_factory=dict)
    """For log records, the part that is kept of those of a severity and of more severe ones, up to the next that is
    named; in place of ``ratio``, which is for those below, and for those without a severity."""
    always: list[ConditionText] = Field(default_factory=list)
    """Conditions. A record of which any is true is kept in any case."""

    def signals(self) -> frozenset[Signal]:
        """Return the signals that can be sampled, and have everything which the conditions ask for."""
        found = frozenset({Signal.LOGS, Signal.TRACES})
        for condition in self.always:
            found &= condition.signals
        return found & {Signal.LOGS} if self.by_severity else found
