"""What runs, and what waits."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.extensions.api.page.view import Asked, Reader, View


def read(reader: Reader, asked: Asked) -> Mapping[str, object]:
    """Return how the hub is. It is asked, not the store: this is true when the store is away as well."""
    return {"status": reader.status()}


VIEW = View(path="/health", name="Health", template="live/health.html", read=read, every=5)
