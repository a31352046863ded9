"""The addresses a configuration listens on, and whether they can be had."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import psutil

from gateway.config import Config, Place, option_for
from gateway.net.listeners import from_here, join_endpoint, listeners_in, split_endpoint

_AWAY = 10_000
"""What is added to a port that is taken for one to propose: 14317 is where most look next."""

_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - recognized, not listened on


class Address(NamedTuple):
    """What a listener listens on: the setting that names it, ``host:port``, and the option that would change it."""

    setting: str
    endpoint: str
    option: str | None


class AddressesTakenError(OSError):
    """Addresses cannot be had. ``instead`` are options, with values, by which a hub starts beside who has them."""

    def __init__(self, number: int | None, message: str, instead: tuple[str, ...]) -> None:
        super().__init__(number, message)
        self.instead = instead


def addresses(config: Config) -> Iterator[Address]:
    """Yield the address of each listener that runs."""
    for name in sorted(config.used_receivers):
        protocols: Any = getattr(config.receivers[name], "protocols", None)
        for protocol in ("grpc", "http"):
            listener = getattr(protocols, protocol, None)
            if listener is not None:
                place = ("receivers", name, "protocols", protocol, "endpoint")
                yield _address(place, listener.endpoint, config.receivers)
    for name in config.service.extensions:
        for _, listener in listeners_in(config.extensions[name]):
            yield _address(("extensions", name, "endpoint"), listener.endpoint, config.extensions)


def _address(place: Place, endpoint: str, defined: Collection[str]) -> Address:
    return Address(".".join(map(str, place)), endpoint, option_for(place, defined))


def take(endpoint: str) -> socket.socket:
    """Bind an address (``host:port``) and return the socket. Raises `OSError` when it is taken."""
    host, port = split_endpoint(endpoint)
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def check_free(config: Config) -> None:
    """Raise `AddressesTakenError` for addresses that cannot be had, saying who has them and which settings change them.

    Workers share their addresses on purpose, so they would not notice that a stranger listens there as well.
    """
    taken: list[tuple[Address, OSError]] = []
    instead: list[str] = []
    lines: list[str] = []
    with contextlib.ExitStack() as held:  # two listeners may want the same one
        for address in addresses(config):
            try:
                held.enter_context(take(address.endpoint))
            except OSError as error:
                taken.append((address, error))
        for address, reason in taken:
            lines.append(
                f"cannot listen on {address.endpoint} ({_reason(reason)}{_holder(address.endpoint)}); "
                f"free that address or set {address.setting}"
            )
            if reason.errno == errno.EADDRINUSE and address.option is not None:
                instead += [address.option, _free_beside(address.endpoint, held)]
    if not taken:
        return
    raise AddressesTakenError(taken[0][1].errno, "\n".join(lines), tuple(instead))


def reached_by(endpoint: str) -> list[str]:
    """Return the addresses by which people reach a listener: of one on every interface, those of this machine.

    The first one works from other machines, where one does.
    """
    host, port = split_endpoint(endpoint)
    if host not in _EVERYWHERE:
        return [endpoint]
    return [*(join_endpoint(each, port) for each in _own_addresses()), from_here(endpoint)]


def _own_addresses() -> list[str]:
    """Return this machine's addresses of IPv4 that others may reach, the one by which it reaches the world first."""
    found: list[str] = []
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as towards:
        towards.connect(("192.0.2.1", 9))  # nothing is sent; documentation's own address
        found.append(towards.getsockname()[0])
    with contextlib.suppress(OSError):
        found += [
            one.address for all_of in psutil.net_if_addrs().values() for one in all_of if one.family == socket.AF_INET
        ]
    return [each for each in dict.fromkeys(found) if not each.startswith(("127.", "169.254."))]


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _holder(endpoint: str) -> str:
    """Say which program listens on a port, where this user may know."""
    host, port = split_endpoint(endpoint)
    with contextlib.suppress(psutil.Error, OSError):
        for one in psutil.net_connections("tcp"):
            if one.status != psutil.CONN_LISTEN or not one.laddr or one.laddr.port != port or not one.pid:
                continue
            if one.pid == os.getpid():
                return " by another listener of this configuration"
            if host in _EVERYWHERE or one.laddr.ip in (host, *_EVERYWHERE):
                return f" by {psutil.Process(one.pid).name()}, process {one.pid}"
    return ""


def _free_beside(endpoint: str, held: contextlib.ExitStack) -> str:
    """Return an address of the same host with a port that is free, and hold it, so that it is proposed only once."""
    host, port = split_endpoint(endpoint)
    for candidate in range(port + _AWAY, min(port + _AWAY + 100, 2**16)):
        proposed = join_endpoint(host, candidate)
        with contextlib.suppress(OSError):
            held.enter_context(take(proposed))
            return proposed
    return join_endpoint(host, 0)  # any that is free
