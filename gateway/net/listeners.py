"""The settings that everything which listens has alike: address, authentication, TLS.

.. code-block:: yaml

    endpoint: 0.0.0.0:4317
    auth: {authenticator: tokens}
    tls: {cert_file: /etc/obs-hub/tls.crt, key_file: /etc/obs-hub/tls.key}
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field, model_validator

from gateway.base.settings import Duration, Settings


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Split ``host:port`` into its parts; ``[::1]:4317`` for IPv6, ``:4317`` (host ``""``) for every interface.

    Raises `ValueError` with an example when it cannot.
    """
    host, colon, port = endpoint.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not (port.isascii() and port.isdigit() and int(port) <= 65535) or (":" in host and not bracketed):
        raise ValueError("expected host:port such as 127.0.0.1:4317, [::1]:4317 or 0.0.0.0:4317")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_endpoint(host: str, port: int) -> str:
    """Write a host and a port the way `split_endpoint` reads them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def from_here(endpoint: str) -> str:
    """Return the address by which a listener is reached from this machine: one that listens everywhere, by loopback."""
    host, port = split_endpoint(endpoint)
    everywhere = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what to connect to
    return join_endpoint(everywhere.get(host, host), port)


def is_loopback(endpoint: str) -> bool:
    """Tell whether only this machine can reach an endpoint.

    A name other than ``localhost`` counts as reachable from elsewhere: what it stands for may change.
    """
    host, _ = split_endpoint(endpoint)
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _check_endpoint(endpoint: str) -> str:
    split_endpoint(endpoint)
    return endpoint


Endpoint = Annotated[str, AfterValidator(_check_endpoint)]
"""An address to listen on, written ``host:port``. Port 0 takes any free port."""


class AuthSettings(Settings):
    """How clients say who they are."""

    authenticator: str
    """The extension that knows them, such as ``tokens``. It must be named in ``service.extensions``."""


class TlsSettings(Settings):
    """TLS. The files are read again when they change; connections that are open keep what they began with."""

    cert_file: Path
    """The certificate in PEM, followed by those that lead to its CA."""

    key_file: Path
    """Its private key in PEM, not encrypted."""

    client_ca_file: Path | None = None
    """Certificates of CAs in PEM. When set, a client must present a certificate of one of them (mTLS)."""

    min_version: Literal["1.2", "1.3"] = "1.2"
    """The oldest TLS version taken."""

    reload_interval: Duration = Field(default=timedelta(seconds=10), ge=timedelta(seconds=0))
    """How often at most it is looked whether the files have changed."""


class ListenerSettings(Settings):
    """What every listener has. One that strangers could reach must ask who they are, or be told not to mind."""

    endpoint: Endpoint
    """Where to listen: ``host:port``."""

    auth: AuthSettings | None = None
    """How clients say who they are. Absent: nobody is asked."""

    tls: TlsSettings | None = None
    """Encryption. Absent: none."""

    max_connections: int = Field(default=2000, ge=1)
    """Connections at once, in each process. One too many is closed at once, and clients come back."""

    insecure: bool = False
    """Listen beyond loopback without authentication all the same."""

    more_advice: ClassVar[str] = ""
    """What else there is to know for who is refused an address, such as a page that has no token."""

    @model_validator(mode="after")
    def _no_strangers(self) -> ListenerSettings:
        asks = self.auth is not None or (self.tls is not None and self.tls.client_ca_file is not None)
        if not (asks or self.insecure or is_loopback(self.endpoint)):
            raise ValueError(
                f"refused: {self.endpoint} can be reached from other machines, and nobody is asked who they are. "
                "Listen on 127.0.0.1; or ask, by 'auth: {authenticator: tokens}' or by client certificates "
                f"('tls: client_ca_file'); or allow everybody by 'insecure: true'{self.more_advice}"
            )
        return self


def listeners_in(settings: BaseModel) -> Iterator[tuple[tuple[str | int, ...], ListenerSettings]]:
    """Yield every listener in some settings, with the keys that lead to it."""
    if isinstance(settings, ListenerSettings):
        yield (), settings
        return
    for name, field in type(settings).model_fields.items():
        yield from _listeners_under((field.alias or name,), getattr(settings, name))


def _listeners_under(
    place: tuple[str | int, ...], value: Any
) -> Iterator[tuple[tuple[str | int, ...], ListenerSettings]]:
    if isinstance(value, BaseModel):
        for inner, listener in listeners_in(value):
            yield (*place, *inner), listener
    elif isinstance(value, dict | list | tuple):
        for step, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _listeners_under((*place, step), item)
