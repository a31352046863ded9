"""Settings of the API front."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from gateway.net.destination import EndpointUrl
from gateway.net.hosts import HttpListenerSettings
from gateway.net.listeners import Endpoint, is_loopback
from gateway.query.config import QuerySettings


class ApiConfig(HttpListenerSettings):
    """The API front and the page."""

    endpoint: Endpoint = "127.0.0.1:8085"
    """Where to listen: ``host:port``."""

    max_connections: int = Field(default=500, ge=1)
    """Connections at once. One too many is closed at once, and clients come back."""

    anonymous_read: bool | None = None
    """Whether reading needs no token. ``null``: on loopback only; beyond, true needs ``insecure``. Without it the page
    asks who opens it to sign in with one. Whatever changes something always needs one."""

    more_advice: ClassVar[str] = (
        ". For the page to be seen by everybody who can open it, without signing in, set 'insecure: true' "
        "and 'anonymous_read: true'; what changes something still needs a token"
    )

    links: dict[str, EndpointUrl] = Field(default_factory=dict)
    """What else the page links to, by name, such as ``Grafana: https://grafana.example.com``."""

    query: QuerySettings = QuerySettings()
    """PromQL, as Prometheus's HTTP API under ``/prometheus``, and traces as Tempo's under ``/tempo``: what Grafana's
    data sources ask for."""

    @model_validator(mode="after")
    def _no_strangers_read(self) -> ApiConfig:
        if self.anonymous_read and not (self.insecure or is_loopback(self.endpoint)):
            raise ValueError(
                f"refused: {self.endpoint} can be reached from other machines, and anonymous_read lets everybody read. "
                "Set it to false and give readers tokens ('obs-hub token create NAME --scope read'), or allow "
                "everybody by 'insecure: true'"
            )
        return self

    @property
    def reads_are_open(self) -> bool:
        """Whether reading needs no token."""
        return is_loopback(self.endpoint) if self.anonymous_read is None else self.anonymous_read
