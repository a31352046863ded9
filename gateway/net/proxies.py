"""Which clients go past the proxy that the environment names.

``http_proxy`` and its kin are meant for other machines. gRPC's library and ``requests`` would take this machine's own
addresses for others too, unless ``no_proxy`` names them; telemetry for the gateway next door would end at the proxy.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from gateway.net.listeners import is_loopback, join_endpoint

DIRECTLY: tuple[tuple[str, int], ...] = (("grpc.enable_http_proxy", 0),)
"""The options of a gRPC channel that uses no proxy."""


def is_local(endpoint: str) -> bool:
    """Tell whether an endpoint, written as a URL or as ``host:port``, is on this machine."""
    try:
        host = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}").hostname or ""
    except ValueError:
        return False
    return is_loopback(join_endpoint(host, 0))


def channel_options(endpoint: str) -> tuple[tuple[str, int], ...]:
    """Return the options of a gRPC channel to an endpoint."""
    return DIRECTLY if is_local(endpoint) else ()
