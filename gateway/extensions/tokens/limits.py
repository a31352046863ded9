"""What bounds the use of a token, and the guessing of one. Each limit is of one process."""

from __future__ import annotations

import contextlib
import ipaddress
import math
from collections import OrderedDict
from collections.abc import Iterator

from gateway.component import TooLargeError
from gateway.net.access import Held, RateLimitedError


class Rate:
    """A token bucket: ``rate`` requests a second, and a second's worth (one at least) at once."""

    def __init__(self, rate: float, now: float, burst: float | None = None) -> None:
        self._rate = rate
        self._burst = max(rate, 1.0) if burst is None else burst
        self._left = self._burst
        self._at = now

    def take(self, now: float) -> float:
        """Take one request. Returns 0, or the seconds to wait for the next when there is none left."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self._rate


class InFlight:
    """Bytes that wait to be answered for, decompressed; None bounds nothing."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._held = 0

    @contextlib.contextmanager
    def hold(self, size: int) -> Iterator[Held]:
        """Hold bytes for the length of a block, as `gateway.net.access.Grant` says."""
        request = _Request(self)
        request.resize(size)
        try:
            yield request
        finally:
            self._held -= request.size

    @property
    def limit(self) -> int | None:
        """The most that may be held."""
        return self._limit

    def change(self, before: int, after: int) -> None:
        """Hold ``after`` bytes of a request rather than ``before``. Raises, and then nothing has changed."""
        if self._limit is not None and after > before:
            if after > self._limit:
                raise TooLargeError(
                    f"the request is larger, decompressed, than the {self._limit} bytes that this token may have in "
                    "flight; send smaller batches, or use a token with a larger --in-flight"
                )
            if self._held - before + after > self._limit:
                raise RateLimitedError(
                    f"this token has {self._held - before} bytes in flight, of at most {self._limit}; send less at once"
                )
        self._held += after - before


class _Request:
    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self.size = 0

    @property
    def most(self) -> int | None:
        return self._in_flight.limit

    def resize(self, size: int) -> None:
        self._in_flight.change(self.size, size)
        self.size = size


class Failures:
    """Failed attempts by address, within a window of ``window`` seconds that begins with the first.

    The table is bounded: beyond ``max_peers`` addresses the one that has been quiet longest is forgotten.
    """

    def __init__(self, limit: int, window: float, max_peers: int = 10_000) -> None:
        self._limit = limit
        self._window = window
        self._max_peers = max_peers
        self._peers: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._peers)

    def add(self, peer: str, now: float) -> float:
        """Count a failed attempt. Returns 0, or the seconds until this address may fail again."""
        peer = network_of(peer)
        began, count = self._peers.pop(peer, (now, 0))
        if now - began >= self._window:
            began, count = now, 0
        count = min(count + 1, self._limit + 1)
        self._peers[peer] = began, count
        if len(self._peers) > self._max_peers:
            self._peers.popitem(last=False)
        return max(began + self._window - now, math.ulp(1.0)) if count > self._limit else 0.0


def network_of(peer: str) -> str:
    """Return what counts as one client: an IPv4 address, or a /64 of IPv6, for one host may have all of that."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer[:64]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
