"""The API front as a part of a running hub."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.extensions.api.config import ApiConfig
from gateway.net.http_bodies import Bodies
from gateway.net.http_serving import AppServer

if TYPE_CHECKING:
    from gateway.extensions.api.app import Front
    from gateway.extensions.api.queries import Queries


class ApiService:
    """Implements `gateway.component.interfaces.Service`. ``refused`` and ``bodies`` are as for `AppServer`.

    ``queries`` are closed when it ends.
    """

    def __init__(
        self,
        name: str,
        config: ApiConfig,
        front: Front,
        refused: Callable[[str, str], None],
        bodies: Bodies,
        queries: Queries,
    ) -> None:
        self.name = name
        self._front = front
        self._queries = queries
        self._server = AppServer(f"extensions.{name}", config, front.app, refused, bodies=bodies)

    @property
    def endpoints(self) -> dict[str, str]:
        """``host:port`` by the extension's name. With port 0, the real one once started."""
        return {self.name: self._server.endpoint}

    async def start(self) -> None:
        """Listen and serve. Raises `OSError` when the address is taken."""
        await self._server.bind()
        await self._server.serve()

    async def stop(self, grace: float) -> None:
        """Finish what is under way within ``grace`` seconds, and end."""
        self._front.close()
        try:
            await self._server.stop(grace)
        finally:
            self._queries.close()
