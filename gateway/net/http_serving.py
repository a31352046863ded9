"""HTTP applications served by uvicorn inside the running event loop, with TLS that is read again and a bounded end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import structlog
import uvicorn

from gateway.net.binding import bind, cannot_listen
from gateway.net.certificates import Certificates
from gateway.net.connection_limit import ConnectionLimit
from gateway.net.handshakes import Handshakes
from gateway.net.http_bodies import Bodies, Whole
from gateway.net.http_protocol import BoundedHttpProtocol
from gateway.net.listeners import ListenerSettings, join_endpoint, split_endpoint

if TYPE_CHECKING:
    from litestar.types import ASGIApp

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_KEEP_ALIVE_SECONDS = 120
"""How long an idle connection stays open: longer than the 60 seconds between two exports of the SDKs' metric reader, so
that clients seldom write into a connection that is just being closed."""

_LAST_WORDS_SECONDS = 1.0
"""How long clients whose request outlived the grace period have to take their answer to being cancelled."""


class AppServer:
    """Serves one application on one listener. ``setting`` is where its settings stand, for error messages.

    ``refused`` hears the setting and the reason of each connection that is not let in. ``bodies`` bounds what arrives,
    here and at all others that have it.
    A request that outlives the grace period of `stop` is cancelled; the application answers it then.
    """

    def __init__(
        self,
        setting: str,
        settings: ListenerSettings,
        app: ASGIApp,
        refused: Callable[[str, str], None],
        *,
        bodies: Bodies | None = None,
        reuse_port: bool = False,
    ) -> None:
        self._setting = setting
        self._settings = settings
        self._app = Whole(app)
        self._bodies = Bodies() if bodies is None else bodies
        self._admission = ConnectionLimit(setting, settings.max_connections, refused)
        self._handshakes = Handshakes(setting, settings.tls, refused)
        self._certificates: Certificates | None = None
        self._reuse_port = reuse_port
        self._sockets: list[socket.socket] = []
        self._server: _EmbeddedServer | None = None
        self._serving: asyncio.Task[None] | None = None
        self.endpoint: str = settings.endpoint

    async def bind(self) -> None:
        """Take the address. Raises `OSError` when it cannot be had, or the certificates cannot be used."""
        if self._settings.tls is not None:
            self._certificates = Certificates(f"{self._setting}.tls", self._settings.tls)
        try:
            self._sockets = await bind(self._settings.endpoint, self._admission, reuse_port=self._reuse_port)
        except OSError as error:
            raise cannot_listen(error, self._settings.endpoint, self._setting) from error
        host, _ = split_endpoint(self._settings.endpoint)
        self.endpoint = join_endpoint(host, self._sockets[0].getsockname()[1])

    async def serve(self) -> None:
        """Begin to answer requests."""
        config = uvicorn.Config(
            self._app,
            http=cast("Any", self._connection),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
        self._server = _EmbeddedServer(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=self._sockets), name=f"{self._setting} server")
        started = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait((self._serving, started), return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            started.cancel()
            await self._serving  # raises what went wrong

    async def stop(self, grace: float) -> None:
        """Close the listeners and idle connections, finish requests in flight within ``grace`` seconds.

        A request that is still in flight then, be it that its body never arrived, is cancelled.
        """
        server, serving = self._server, self._serving
        self._server = self._serving = None
        if server is None or serving is None:
            for taken in self._sockets:
                taken.close()
            return
        server.should_exit = True
        if await _is_done(serving, grace):
            return
        state = server.server_state
        if state.tasks:
            _log.warning("requests still in flight after the grace period are cancelled", requests=len(state.tasks))
        for task in tuple(state.tasks):
            task.cancel()
        if not await _is_done(serving, _LAST_WORDS_SECONDS):
            server.force_exit = True
            for connection in tuple(state.connections):
                connection.transport.abort()
            await serving

    def _connection(self, *args: Any, **kwargs: Any) -> asyncio.BaseProtocol:
        protocol = BoundedHttpProtocol(*args, bodies=self._bodies, handshakes=self._handshakes, **kwargs)
        # Not by uvicorn's own settings, which make a context of files that is never made again.
        return protocol if self._certificates is None else self._handshakes.wrap(protocol, self._certificates)


async def _is_done(task: asyncio.Task[None], seconds: float) -> bool:
    done, _ = await asyncio.wait((task,), timeout=seconds)
    return bool(done)


class _EmbeddedServer(uvicorn.Server):
    """A uvicorn server that leaves the process's signals alone and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()
