"""Settings of the filter."""

from __future__ import annotations

from pydantic import Field, model_validator

from gateway.component.batch import Signal
from gateway.component.declaration import ProcessorSettings
from gateway.processors.common.config import ConditionText


class FilterConfig(ProcessorSettings):
    """Leaves out records by conditions on their names, attributes, severities, resources."""

    drop: list[ConditionText] = Field(default_factory=list)
    """Conditions. A record of which any is true is left out."""
    keep: list[ConditionText] = Field(default_factory=list)
    """Conditions. Where there are any, a record of which none is true is left out, too."""

    @model_validator(mode="after")
    def _something(self) -> FilterConfig:
        if not self.drop and not self.keep:
            raise ValueError("expected conditions under drop or keep, such as 'drop: [severity < warn]'")
        return self

    def signals(self) -> frozenset[Signal]:
        """Return the signals that have everything which the conditions ask for."""
        found = frozenset(Signal)
        for condition in (*self.drop, *self.keep):
            found &= condition.signals
        return found
