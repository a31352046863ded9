"""The store, open for queries: what all of them share."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gateway.net.loki import LokiAccess
from gateway.query.config import QuerySettings
from gateway.query.limits import Large, Usage
from gateway.query.reading.catalogue import Catalogue
from gateway.query.reading.connection import Readers, Reading
from gateway.query.reading.frames import Memory
from gateway.query.reading.querier import StoreQuerier

if TYPE_CHECKING:
    from gateway.query.logs.loki import LokiLogs

_LOKI_SECONDS = 5.0
"""How long an answer of Loki is waited for by whoever looks at a page."""


class QueryService:
    """Reads one store for several threads. ``find_dsn`` returns where it is now; None: there is none.

    ``loki`` is where logs are that the store does not have.
    """

    def __init__(
        self, settings: QuerySettings, find_dsn: Callable[[], str | None], loki: LokiAccess | None = None
    ) -> None:
        self.settings = settings
        self._loki_access = loki
        self._loki: LokiLogs | None = None
        self._lock = threading.Lock()
        self._readers = Readers(find_dsn, settings.timeout.total_seconds())
        self._catalogue = Catalogue(settings.translation)
        self._memory = Memory(settings.max_remembered)
        self._large = Large(settings.large_query)

    def usage(self, seconds: float | None = None) -> Usage:
        """Begin to count what a query takes, which is to last no longer than ``seconds``."""
        return Usage(self.settings.limits(seconds), self._large)

    @contextlib.contextmanager
    def reading(self, usage: Usage) -> Iterator[Reading]:
        """Lend a connection to one query."""
        with self._readers.reading(usage) as reading:
            yield reading

    @contextlib.contextmanager
    def querier(self, usage: Usage) -> Iterator[StoreQuerier]:
        """Let one query read series."""
        with self._readers.reading(usage) as reading:
            yield self.querier_of(reading)

    def querier_of(self, reading: Reading) -> StoreQuerier:
        """Return what reads series by a connection."""
        return StoreQuerier(reading, self._catalogue, self._memory)

    @property
    def loki(self) -> LokiLogs | None:
        """The logs of Loki, where there is one. Raises `SourceError` where its settings cannot be used."""
        if self._loki_access is None:
            return None
        from gateway.query.logs.loki import LokiLogs  # with which comes httpx

        with self._lock:
            if self._loki is None:
                self._loki = LokiLogs(self._loki_access, _LOKI_SECONDS)
            return self._loki

    def close(self) -> None:
        """Close the connections."""
        self._readers.close()
        if self._loki is not None:
            self._loki.close()
