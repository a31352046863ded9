"""What there is: hosts and services."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.extensions.api.page.view import Asked, Reader, View
from gateway.query import overview


def read(reader: Reader, asked: Asked) -> Mapping[str, object]:
    """Return what sends telemetry."""
    return {
        "hosts": overview.names(reader.reading, "host_name"),
        "services": overview.names(reader.reading, "service_name"),
        "endpoints": reader.hub.endpoints(),
    }


VIEW = View(path="/", name="Overview", template="live/overview.html", read=read, every=5)
