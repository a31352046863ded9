"""The addresses a configuration listens on."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

from gateway.config import Config
from gateway.pipeline.listeners import listeners_in


def addresses(config: Config) -> Iterator[tuple[str, str]]:
    """Yield, for each listener that runs, the setting that names its address, and the address."""
    for name in sorted(config.used_receivers):
        protocols: Any = getattr(config.receivers[name], "protocols", None)
        for protocol in ("grpc", "http"):
            listener = getattr(protocols, protocol, None)
            if listener is not None:
                yield f"receivers.{name}.protocols.{protocol}.endpoint", listener.endpoint
    for name in config.service.extensions:
        for _, listener in listeners_in(config.extensions[name]):
            yield f"extensions.{name}.endpoint", listener.endpoint


def take(address: str) -> socket.socket:
    """Bind an address (``host:port``) and return the socket. Raises `OSError` when it is taken."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def check_free(config: Config) -> None:
    """Raise `OSError` for the first address that is taken, saying which setting changes it.

    Workers share their addresses on purpose, so they would not notice that a stranger listens there as well.
    """
    for setting, address in addresses(config):
        try:
            take(address).close()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(
                error.errno, f"cannot listen on {address} ({reason}); free that address or set {setting}"
            ) from error
