"""Settings of the gate."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from gateway.base.settings import Duration
from gateway.net.destination import EmitterSettings
from gateway.net.listeners import is_loopback, join_endpoint

FUNNEL_PORTS = (443, 8443, 10000)
"""The only ports that Funnel has (Tailscale documentation, "Tailscale Funnel", limitations)."""

_WEBHOOK = re.compile(r"/api/v1/webhooks/[A-Za-z0-9_-]+", re.ASCII)
_SCHEMES = ("http", "https", "https+insecure")


def _check_path(path: str) -> str:
    if not _WEBHOOK.fullmatch(path):
        raise ValueError("expected the path of one webhook, such as /api/v1/webhooks/github: nothing else is exposed")
    return path


def _check_target(target: str) -> str:
    parts = urlsplit(target)
    host, port = parts.hostname or "", parts.port
    rest = parts.path.rstrip("/") or parts.query or parts.fragment or parts.username
    if parts.scheme not in _SCHEMES or port is None or rest or not is_loopback(join_endpoint(host, port)):
        raise ValueError(
            "expected the API front on this machine, such as http://127.0.0.1:8085 or https+insecure://127.0.0.1:8085, "
            "without a path"
        )
    return target.rstrip("/")


class GateConfig(EmitterSettings):
    """The Tailscale gate, which `obs-hub gate run` is: a process of its own, not named in `service.extensions`.

    Where it sends its own telemetry: as `endpoint` and its kin say, else as `service.telemetry.endpoint` does.
    """

    mode: Literal["funnel", "serve"] = "funnel"
    """``funnel``: the internet reaches the webhook, which GitHub needs. ``serve``: only the tailnet does."""

    https_port: int = Field(default=443, ge=1, le=65535)
    """The port of this machine's Tailscale name. Funnel has 443, 8443 and 10000. It must have no other entries."""

    path: Annotated[str, AfterValidator(_check_path)] = "/api/v1/webhooks/github"
    """The one path that is exposed."""

    target: Annotated[str, AfterValidator(_check_target)] | None = None
    """The API front, on this machine. ``null``: as the extension ``api`` says, else ``http://127.0.0.1:8085``.

    ``https+insecure://`` is for a front with TLS: over loopback, its certificate is for another name.
    """

    interval: Duration = Field(default=timedelta(seconds=5), ge=timedelta(milliseconds=100))
    """How often the gateway is asked whether it is ready."""

    timeout: Duration = Field(default=timedelta(seconds=3), ge=timedelta(milliseconds=100))
    """How long it may take to answer. No answer is as bad as a bad one."""

    open_after: int = Field(default=3, ge=1)
    """So many good answers in a row open the gate."""

    close_after: int = Field(default=2, ge=1)
    """So many bad answers in a row close it."""

    verify_interval: Duration = Field(default=timedelta(minutes=1), ge=timedelta(milliseconds=100))
    """How often Tailscale is asked whether exactly this is exposed, while nothing changes."""

    command: str = Field(default="tailscale", min_length=1)
    """Tailscale's command: a name on PATH, or a path."""

    command_timeout: Duration = Field(default=timedelta(seconds=15), ge=timedelta(milliseconds=100))
    """How long it may take."""

    close_timeout: Duration = Field(default=timedelta(seconds=45), ge=timedelta(milliseconds=100))
    """How long closing is tried when the gate ends. Shorter than what systemd grants it (``TimeoutStopSec``, 2 min)."""

    @model_validator(mode="after")
    def _port_of_funnel(self) -> GateConfig:
        if self.mode == "funnel" and self.https_port not in FUNNEL_PORTS:
            raise ValueError(f"Funnel has the ports 443, 8443 and 10000, not {self.https_port}; or set 'mode: serve'")
        return self
