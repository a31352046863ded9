"""Settings of the API front."""

from __future__ import annotations

from pydantic import Field

from gateway.pipeline.listeners import Endpoint, ListenerSettings, is_loopback


class ApiConfig(ListenerSettings):
    """The API front and the page."""

    endpoint: Endpoint = "127.0.0.1:8085"
    """Where to listen: ``host:port``."""

    anonymous_read: bool | None = None
    """Whether reading needs no token. ``null``: on loopback only. Whatever changes something always needs one."""

    allowed_hosts: list[str] = Field(default_factory=list)
    """Names that the front is called by, such as ``hub.example.com``, besides those of loopback and of ``endpoint``.

    A web page elsewhere can have its own name lead to this machine (DNS rebinding); a request for a name that is not
    known is refused. Empty: on loopback its names only, on other addresses any.
    """

    @property
    def reads_are_open(self) -> bool:
        """Whether reading needs no token."""
        return is_loopback(self.endpoint) if self.anonymous_read is None else self.anonymous_read
