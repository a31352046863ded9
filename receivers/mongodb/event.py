"""The event that a document becomes, as a transform sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Event:
    """What is sent for one document: an OpenTelemetry log record with an event name.

    ``time_unix_nano`` is in nanoseconds since the Unix epoch. ``body``, and the values of ``attributes`` and
    ``resource``, are what JSON knows, besides ``bytes``, `datetime.datetime` and what `bson` reads. ``resource`` has
    ``service.name``; ``severity_number`` is OpenTelemetry's, 9 being INFO.
    """

    name: str
    time_unix_nano: int
    body: Any = None
    attributes: dict[str, Any] = field(default_factory=dict)
    resource: dict[str, Any] = field(default_factory=dict)
    severity_number: int = 9
