"""A wire between a hub and its database that can fail as networks do: it swallows, and neither end is told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Swallowing = Literal["all", "answers", "answers to receipts", "answers to locking", "after copying began"]

_COPY = b"COPY "
_QUESTIONS: dict[Swallowing, bytes] = {
    "answers to receipts": b"INSERT INTO receipt",
    "answers to locking": b"LOCK TABLE",
}


class Wire:
    """Hands bytes between a port of its own and a server.

    While it swallows, what is on a connection goes nowhere, and connections are neither closed nor, if new, answered.
    Mended, it takes new connections; those of before stay as they are: open, and dead, as through a firewall that has
    forgotten them. So both ends have to find out for themselves.
    """

    def __init__(self, server: str | tuple[str, int]) -> None:
        self._server = server
        self._swallowing: Swallowing | None = None
        self._mended = threading.Event()
        self._mended.set()
        self._ended = False
        self._sockets: list[socket.socket] = []
        self.swallowed = 0
        self.waiting = 0
        """How many new connections are kept waiting."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def swallow(self, what: Swallowing = "all") -> None:
        """From now on swallow all, only answers (all, or from a statement on), or all once rows are being copied.

        But for all, new connections are made, those too that were kept waiting while all was swallowed.
        """
        self._swallowing = what
        if what == "all":
            self._mended.clear()
        else:
            self._mended.set()

    def mend(self) -> None:
        """Take new connections, and carry what is on them."""
        self._swallowing = None
        self._mended.set()

    def end(self) -> None:
        """Close everything."""
        self._ended = True
        self._mended.set()
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while not self._ended:
            with suppress(OSError):
                client, _ = self._listener.accept()
                self._sockets.append(client)
                self.waiting += 1
                self._mended.wait()
                self.waiting -= 1
                server = socket.socket(socket.AF_UNIX if isinstance(self._server, str) else socket.AF_INET)
                self._sockets.append(server)
                try:
                    server.connect(self._server)
                except OSError:
                    client.close()
                    continue
                dead = threading.Event()
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=(source, sink, sink is client, dead), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, answers: bool, dead: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                match swallowing := self._swallowing:
                    case "all":
                        dead.set()
                    case "answers" if answers:
                        dead.set()
                    case "answers to receipts" | "answers to locking" if not answers and _QUESTIONS[swallowing] in data:
                        dead.set()
                    case "after copying began" if not answers and _COPY in data and not dead.is_set():
                        sink.sendall(data)  # the statement arrives, and the server waits for the rows
                        dead.set()
                        self.swallowed += 1
                        continue
                    case _:
                        pass
                if dead.is_set() and (answers or swallowing not in ("answers", *_QUESTIONS)):
                    self.swallowed += 1
                    continue
                sink.sendall(data)
        if not dead.is_set():
            for each in (source, sink):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)


@contextmanager
def wired(server: str | tuple[str, int]) -> Iterator[Wire]:
    """A wire to a server, named by its port or its Unix socket, for the length of a block."""
    wire = Wire(server)
    try:
        yield wire
    finally:
        wire.end()
