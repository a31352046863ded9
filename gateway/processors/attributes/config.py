"""Settings of the processor of attributes."""

from __future__ import annotations

from pydantic import Field, SecretStr

from gateway.component.batch import Signal
from gateway.component.declaration import ProcessorSettings
from gateway.processors.common.actions import ActionSettings
from gateway.processors.common.config import ConditionText


class AttributesConfig(ProcessorSettings):
    """Changes the attributes of log records, spans and data points."""

    actions: list[ActionSettings] = Field(min_length=1)
    """What is done, in this order."""
    where: ConditionText | None = None
    """A condition. Records of which it is not true stay as they are."""
    hash_secret: SecretStr | None = None
    """What ``hash`` is keyed by. Without one, who guesses a value can find out that it was that."""

    def signals(self) -> frozenset[Signal]:
        """Return the signals that have everything which the condition asks for."""
        return frozenset(Signal) if self.where is None else self.where.signals
