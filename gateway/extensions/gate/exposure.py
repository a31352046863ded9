"""What ``tailscale serve status --json`` says of one port.

It prints Tailscale's ``ipn.ServeConfig``::

    {"TCP": {"443": {"HTTPS": true}},
     "Web": {"nas.tail1234.ts.net:443": {"Handlers": {"/api/v1/webhooks/github": {"Proxy": "http://127.0.0.1:8085/…"}}}},
     "AllowFunnel": {"nas.tail1234.ts.net:443": true},
     "Foreground": {"<session>": {"TCP": …, "Web": …, "AllowFunnel": …}}}

where everything that is empty is left out, and all of it may be ``null``. ``tailscale funnel status --json`` prints the
same. Funnel is a property of a port: what else is on it is exposed as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

_Value = TypeVar("_Value")


class _TcpPort(msgspec.Struct):
    forward: str = msgspec.field(default="", name="TCPForward")


class _Handler(msgspec.Struct):
    proxy: str = msgspec.field(default="", name="Proxy")


class _Web(msgspec.Struct):
    handlers: dict[str, _Handler] | None = msgspec.field(default=None, name="Handlers")


class _ServeConfig(msgspec.Struct):
    tcp: dict[str, _TcpPort] | None = msgspec.field(default=None, name="TCP")
    web: dict[str, _Web] | None = msgspec.field(default=None, name="Web")
    funnel: dict[str, bool] | None = msgspec.field(default=None, name="AllowFunnel")
    foreground: dict[str, _ServeConfig] | None = msgspec.field(default=None, name="Foreground")


@dataclass(frozen=True, slots=True)
class Exposure:
    """What is exposed on the gate's port.

    ``mount`` is the gate's path as it is entered, None where it is not; ``proxy`` is where that leads, ``url`` how it
    is reached. ``others`` describes all else on the port, and ``funnel`` tells whether the internet reaches the port.
    """

    mount: str | None = None
    proxy: str = ""
    url: str = ""
    others: tuple[str, ...] = ()
    funnel: bool = False

    def is_exactly(self, mode: str, proxy: str) -> bool:
        """Tell whether the gate's path is exposed as the mode says, and nothing is exposed along with it."""
        public = mode == "funnel"
        return self.mount is not None and self.proxy == proxy and self.funnel == public and not (public and self.others)

    def obstacle(self, mode: str, port: int) -> str | None:
        """Say why opening would expose, or hide, something that is not the gate's; None when it would not."""
        if mode == "funnel" and self.others:
            return (
                f"port {port} has other entries ({', '.join(self.others)}), which Funnel would expose to the internet "
                "as well; move them, or set extensions.gate.https_port to a port of its own (443, 8443 or 10000)"
            )
        if mode == "serve" and self.funnel and (self.others or self.mount is None):
            return (
                f"Funnel is on for port {port}, and would be turned off; turn it off yourself, or set "
                "extensions.gate.https_port to another port"
            )
        return None

    def describe(self) -> str:
        """Say in one line what is exposed."""
        whom = "the internet" if self.funnel else "the tailnet"
        ours = "" if self.mount is None else f"{self.url} -> {self.proxy}, to {whom}"
        rest = f"other entries, to {whom}: {', '.join(self.others)}" if self.others else ""
        return "; ".join(filter(None, (ours, rest))) or "nothing on this port"


def read(status: str, port: int, path: str) -> Exposure:
    """Read the JSON status. Raises `ValueError` when it is none."""
    try:
        root = msgspec.json.decode(status, type=_ServeConfig | None) or _ServeConfig()
    except msgspec.MsgspecError as error:
        raise ValueError(f"it is not the JSON status of Tailscale Serve ({error})") from error
    mount, proxy, url = None, "", ""
    others: list[str] = []
    foreground = list((root.foreground or {}).values())
    for config in (root, *foreground):
        for host, web in _on(port, config.web):
            for mounted, handler in (web.handlers or {}).items():
                # An entry of the foreground ends with whoever made it, who was not the gate.
                if config is root and mounted.rstrip("/") == path:
                    mount, proxy, url = mounted, handler.proxy, f"https://{host.removesuffix(':443')}{mounted}"
                else:
                    others.append(f"{mounted} on {host}")
        if (forwarded := (config.tcp or {}).get(str(port))) and forwarded.forward:
            others.append(f"TCP to {forwarded.forward}")
    funnel = any(on for config in (root, *foreground) for _, on in _on(port, config.funnel))
    return Exposure(mount, proxy, url, tuple(sorted(others)), funnel)


def _on(port: int, entries: Mapping[str, _Value] | None) -> Iterator[tuple[str, _Value]]:
    for host, value in (entries or {}).items():
        if host.rpartition(":")[2] == str(port):
            yield host, value
