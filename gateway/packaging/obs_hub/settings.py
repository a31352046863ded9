"""What the settings of plugins are made of, so that they are read, checked and documented as the hub's own are."""

from typing import TYPE_CHECKING, Any

from obs_hub import open_folder

open_folder()

from gateway.base.settings import (  # noqa: E402
    ByteSize,
    Contradiction,
    DeadLetterSettings,
    Duration,
    ExporterSettings,
    RetrySettings,
    Settings,
    SpoolSettings,
)
from gateway.net.destination import ClientTlsSettings, EmitterSettings, EndpointUrl, Headers  # noqa: E402

__all__ = [
    "ByteSize",
    "ClientTlsSettings",
    "Contradiction",
    "DeadLetterSettings",
    "Duration",
    "EmitterSettings",
    "EndpointUrl",
    "ExporterSettings",
    "Headers",
    "RetrySettings",
    "Settings",
    "SpoolSettings",
]

if TYPE_CHECKING:
    # As in `obs_hub.component`.
    def __getattr__(name: str) -> Any: ...
