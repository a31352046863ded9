"""Settings of what reads the store for query languages."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from gateway.base.settings import ByteSize, Duration, Settings
from gateway.query.limits import Limits
from gateway.query.names import HOST_LIKE, Strategy, Translation


class QuerySettings(Settings):
    """Reading the store by query languages, under ``/prometheus`` and ``/tempo``."""

    enabled: bool = True
    """Whether the paths are there."""

    timeout: Duration = Field(default=timedelta(minutes=2), ge=timedelta(seconds=1))
    """How long a query may take, its waiting for others included."""
    max_concurrent: int = Field(default=4, ge=1, le=100)
    """Queries that run at once; others wait. Each has a connection to the store."""
    max_series: int = Field(default=100_000, ge=1)
    """Series that a query may read."""
    max_samples: int = Field(default=50_000_000, ge=1)
    """Samples that a query may read, and that its result may have."""
    max_bytes: ByteSize = Field(default=2**30, ge=2**20)
    """Bytes that PostgreSQL may send for a query."""
    large_query: ByteSize = Field(default=2**26, ge=2**20)
    """Bytes of memory from which on a query is a large one. One of these runs at a time; others wait for it."""
    max_remembered: ByteSize = Field(default=2**26, ge=0)
    """Bytes of points that stay in memory, to be used again where nothing was added to them meanwhile; 0: none."""
    lookback_delta: Duration = Field(default=timedelta(minutes=5), ge=timedelta(milliseconds=1))
    """How long a sample counts as the present one where no newer one came."""

    translation_strategy: Strategy = Strategy.UNDERSCORES_AND_SUFFIXES
    """What metrics and attributes are called in PromQL. ``UnderscoreEscapingWithSuffixes``:
    ``system_cpu_time_seconds_total``; ``UnderscoreEscapingWithoutSuffixes``: ``system_cpu_time``;
    ``NoUTF8EscapingWithSuffixes``: ``system.cpu.time_seconds_total``; ``NoTranslation``: ``system.cpu.time``."""
    promote_resource_attributes: tuple[str, ...] = HOST_LIKE
    """Attributes of resources that are labels of their series. All are on ``target_info``."""
    promote_all_resource_attributes: bool = False
    """Whether all are, but for ``ignore_resource_attributes``."""
    ignore_resource_attributes: tuple[str, ...] = ()
    """Those that are not promoted with all others."""
    keep_identifying_resource_attributes: bool = False
    """Whether ``target_info`` has ``service.name``, ``service.namespace`` and ``service.instance.id`` as well, which
    ``job`` and ``instance`` are made of."""
    promote_scope_metadata: bool = False
    """Whether series have labels of their instrumentation scope: ``otel_scope_name``, ``otel_scope_version``,
    ``otel_scope_schema_url``, and ``otel_scope_`` with each attribute."""

    @property
    def translation(self) -> Translation:
        """How names are made."""
        return Translation(
            self.translation_strategy,
            frozenset(self.promote_resource_attributes),
            self.promote_all_resource_attributes,
            frozenset(self.ignore_resource_attributes),
            self.keep_identifying_resource_attributes,
            self.promote_scope_metadata,
        )

    def limits(self, seconds: float | None = None) -> Limits:
        """Return the bounds of a query, which may ask for less time than it could have."""
        longest = self.timeout.total_seconds()
        return Limits(
            self.max_series, self.max_samples, self.max_bytes, longest if seconds is None else min(seconds, longest)
        )
