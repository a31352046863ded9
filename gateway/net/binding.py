"""Taking an address to listen on, and saying what to do when it cannot be had."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

from gateway.net.connection_limit import ConnectionLimit, Listener
from gateway.net.listeners import split_endpoint

BACKLOG = 2048
"""Connections that may wait to be taken."""

_NO_SUCH_FAMILY = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


async def bind(endpoint: str, admission: ConnectionLimit, *, reuse_port: bool) -> list[socket.socket]:
    """Return listening sockets, one for each address that the endpoint's host stands for, all on one port.

    Raises `OSError` when an address is taken.
    """
    host, port = split_endpoint(endpoint)
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    unusable: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            listener = socket.create_server((address[0], port), family=family, backlog=BACKLOG, reuse_port=reuse_port)
        except OSError as error:
            if error.errno in _NO_SUCH_FAMILY:  # localhost is also ::1 on machines that have no IPv6
                unusable = error
                continue
            for taken in sockets:
                taken.close()
            raise
        # Connections inherit it. asyncio sets it only where a socket was made with the protocol's number. Without it an
        # answer in several pieces waits 40 ms for the client's delayed acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets.append(Listener(listener, admission))
        port = sockets[-1].getsockname()[1]  # where any port will do, all addresses get the same
    if not sockets:
        raise unusable or OSError(errno.EADDRNOTAVAIL, "the host has no address")
    return sockets


def cannot_listen(error: OSError, endpoint: str, setting: str) -> OSError:
    """Make the error for people: which address, why not, and the setting (``receivers.otlp...``) to change."""
    # The address is said already, and asyncio's strerror says it again.
    reason = os.strerror(error.errno) if error.errno else str(error)
    return OSError(error.errno, f"cannot listen on {endpoint} ({reason}); free that address or set {setting}.endpoint")
