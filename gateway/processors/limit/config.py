"""Settings of the limit."""

from __future__ import annotations

from pydantic import Field

from gateway.component.declaration import ProcessorSettings


class LimitConfig(ProcessorSettings):
    """Lets so many records a second through of each service; the others are left out and counted.

    Each worker of a hub counts what it gets.
    """

    records_per_second: float = Field(gt=0, le=1e9)
    """How many, on average."""
    burst: int | None = Field(default=None, ge=1)
    """How many at once, after a time with fewer. ``null``: those of five seconds."""
    by: list[str] = Field(default=["service.name"], min_length=1)
    """Attributes of the resource that tell services apart. Those that lack them all share one limit."""

    @property
    def most_at_once(self) -> float:
        """How many records may come at once."""
        return float(self.burst) if self.burst is not None else max(5 * self.records_per_second, 1.0)
