"""HTTP/1.1 by uvicorn, with bounds on what it leaves to its clients: the size of a request's head, and time.

Without them a stranger who never ends a header, or never goes on with a body, is listened to for ever.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MAX_HEAD = 64 * 1024
"""Bytes of a request that lead neither to the end of its headers nor to any of its body."""

_MAX_PIPELINED = 256
"""Requests that may wait behind the one being answered. What arrives at once can hold very many, and each costs more
memory than it has bytes."""

_PATIENCE = 60.0
"""Seconds for which nothing may come of a request that was begun, or of a connection; or an answer is not taken."""

_PACE = 8 * 1024
"""How many bytes give a client another second: over a slow line, a large request takes its time."""

_LOOK = 5.0
"""Seconds between two looks: by so much a client may take longer."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection of a client. Idle ones, between two requests, are closed by uvicorn."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look after the client."""
        super().connection_made(transport)
        self._head = 0
        self._came_on = False
        self._since = self.loop.time()
        self._tick = self.loop.call_later(_LOOK, self._look_after)

    def connection_lost(self, exc: Exception | None) -> None:
        """End with the connection."""
        self._tick.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Work off what arrived, unless it leads to nothing."""
        self._since = min(self.loop.time(), self._since + len(data) / _PACE)
        self._came_on = False
        super().data_received(data)
        self._head = 0 if self._came_on else self._head + len(data)
        if self._head > _MAX_HEAD and not self.transport.is_closing():
            self.send_400_response(f"the headers are longer than {_MAX_HEAD} bytes")

    def on_headers_complete(self) -> None:
        """Begin a request."""
        self._came_on = True
        if len(self.pipeline) >= _MAX_PIPELINED:
            raise ValueError("too many requests at once")  # uvicorn answers 400 and closes
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a request's body."""
        self._came_on = True
        super().on_body(body)

    def _look_after(self) -> None:
        """Break off a connection whose client has kept us waiting for too long. Runs every few seconds."""
        now = self.loop.time()
        self._tick = self.loop.call_later(_LOOK, self._look_after)
        if not self._waits_for_client():
            self._since = now
        elif now - self._since > _PATIENCE:
            self.transport.abort()

    def _waits_for_client(self) -> bool:
        if self.flow.write_paused or self.transport.is_closing():
            return True
        if self.pipeline or self.timeout_keep_alive_task is not None:
            return False
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body
