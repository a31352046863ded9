"""Settings of the Timescale exporter."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from gateway.store import StoreSettings


def _switch(value: object) -> object:
    """Take YAML's words for true and false as PostgreSQL does."""
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


class TimescaleConfig(StoreSettings):
    """Writes all three signals to TimescaleDB or PostgreSQL."""

    synchronous_commit: Annotated[
        Literal["on", "off", "local", "remote_write", "remote_apply"], BeforeValidator(_switch)
    ] = "on"
    """PostgreSQL's setting of that name, for what this exporter stores. ``on``, whatever server, database or role have
    set, or ``remote_apply`` where they have that. Anything weaker gives up on what an OK means: with ``off``, what was
    acknowledged in the last moments is lost when PostgreSQL or its machine goes down; with ``local`` or
    ``remote_write``, when a standby takes over."""
    connections: int = Field(default=1, ge=1, le=32)
    """How many commits may run at once, each on a connection of its own."""
    series_cache: int = Field(default=2_000_000, ge=1_000)
    """How many series are remembered, so that a known one costs a look-up: twice as many as are in use at a time. Each
    takes 24 to 48 bytes once it is there."""
    series_limit: int = Field(default=100_000, ge=1)
    """How many series one metric may have. Points with new attributes beyond go to its overflow series."""
    series_limit_total: int = Field(default=1_000_000, ge=1)
    """How many series there may be in all."""
