"""A stand-in for systemd's side of sd_notify(3): the socket that a service tells how it does."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Manager:
    """What a service has said, in order: for each datagram its fields."""

    def __init__(self, address: str) -> None:
        self.address = address
        """What belongs into ``NOTIFY_SOCKET``."""
        self.said: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def listen(self, seconds: float = 0.0) -> list[dict[str, str]]:
        """Take what is said within a time, and return it."""
        deadline = time.monotonic() + seconds
        fresh: list[dict[str, str]] = []
        while True:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                message = self._socket.recv(65536).decode()
            except TimeoutError:
                self.said += fresh
                return fresh
            fresh.append(dict(line.split("=", 1) for line in message.splitlines()))

    def has(self, name: str) -> bool:
        """Tell whether a field was ever sent."""
        self.listen()
        return any(name in fields for fields in self.said)

    def close(self) -> None:
        self._socket.close()


@contextmanager
def manager(address: str) -> Iterator[Manager]:
    """A service manager, for the length of a block."""
    made = Manager(address)
    try:
        yield made
    finally:
        made.close()
