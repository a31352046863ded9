"""Settings of the processor of resources."""

from __future__ import annotations

from pydantic import Field, SecretStr

from gateway.component.declaration import ProcessorSettings
from gateway.processors.common.actions import ActionSettings


class ResourceConfig(ProcessorSettings):
    """Changes the attributes of resources: who the records are from."""

    attributes: list[ActionSettings] = Field(min_length=1)
    """What is done, in this order."""
    hash_secret: SecretStr | None = None
    """What ``hash`` is keyed by. Without one, who guesses a value can find out that it was that."""
