"""Settings of the Loki exporter."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from gateway.base.settings import ExporterSettings, Settings
from gateway.net.destination import (
    ClientTlsSettings,
    Compression,
    Headers,
    HeaderSecret,
    check_endpoint,
    check_header_value,
)
from gateway.net.loki import LokiAccess


def _base_url(endpoint: str) -> str:
    """Return the base URL of a Loki, also when the URL of its OTLP endpoint was given."""
    return check_endpoint(endpoint).rstrip("/").removesuffix("/v1/logs").removesuffix("/otlp")


class BasicAuth(Settings):
    """User name and password, as Loki's proxy asks for."""

    username: str
    """The user; at Grafana Cloud a number."""
    password: SecretStr
    """The password or access token."""


class LokiConfig(ExporterSettings):
    """Sends logs to Grafana Loki (3.0 or newer), as they came.

    Where a logs pipeline has it, the store keeps the events only; see the setting ``logs`` of ``timescale``.
    """

    keeps_logs: ClassVar[bool] = True

    endpoint: Annotated[str, AfterValidator(_base_url)]
    """Loki's base URL, such as ``http://loki:3100``, to which ``/otlp/v1/logs`` is added."""
    tenant_id: Annotated[str, AfterValidator(check_header_value)] | None = None
    """The tenant, sent as ``X-Scope-OrgID``. Needed where Loki runs with ``auth_enabled``."""
    basic_auth: BasicAuth | None = None
    """User name and password."""
    bearer_token: HeaderSecret | None = None
    """A token, sent as ``Authorization: Bearer``."""
    headers: Headers = Field(default_factory=dict)
    """More headers of each request."""
    tls: ClientTlsSettings = ClientTlsSettings()
    """Certificates, for an ``https`` endpoint."""
    compression: Compression = "gzip"
    """How requests are compressed."""
    duplicates: Literal["drop", "keep"] = "drop"
    """Loki keeps one of several entries of a stream that are equal in timestamp and line (3.7 looks at attributes too).
    ``keep``: within a batch the others are moved by a nanosecond each, so that all stay. ``drop``: batches are sent as
    they came."""
    concurrency: int = Field(default=4, ge=1, le=64)
    """How many requests may be under way at once. Each carries one batch."""

    @property
    def loki(self) -> LokiAccess:
        """How whoever reads the logs enters it."""
        basic, token, tls = self.basic_auth, self.bearer_token, self.tls
        return LokiAccess(
            url=self.endpoint,
            tenant=self.tenant_id,
            token=None if token is None else token.get_secret_value(),
            basic=None if basic is None else (basic.username, basic.password.get_secret_value()),
            headers={name: value.get_secret_value() for name, value in self.headers.items()},
            ca_file=tls.ca_file,
            cert_file=tls.cert_file,
            key_file=tls.key_file,
        )

    @model_validator(mode="after")
    def _one_way_in(self) -> LokiConfig:
        if self.basic_auth is not None and self.bearer_token is not None:
            raise ValueError("expected basic_auth or bearer_token, not both")
        return self
