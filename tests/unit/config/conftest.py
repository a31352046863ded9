from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr, field_validator

from gateway.base.settings import ByteSize, Duration, Settings
from gateway.component import Signal
from gateway.component.declaration import ExporterComponent, ReceiverComponent
from gateway.components import Registry
from gateway.config import Config, ConfigError, Scheme, load


class Listener(Settings):
    endpoint: str = "127.0.0.1:1"
    """Where to listen."""
    limit: int = Field(default=4, ge=1)


class Protocols(Settings):
    grpc: Listener = Listener()
    http: Listener | None = None


class Receiver(Settings):
    """Takes things."""

    protocols: Protocols = Protocols()
    interval: Duration = timedelta(seconds=15)


class Exporter(Settings):
    """Gives things."""

    dsn: SecretStr | None = None
    url: str = "http://localhost"
    headers: dict[str, str] = Field(default_factory=dict)
    size: ByteSize = 2**20
    connections: int = Field(default=1, le=32)
    anything: Any = None
    ratio: float = 1.0

    @field_validator("url")
    @classmethod
    def _no_ftp(cls, url: str) -> str:
        if url.startswith("ftp"):
            raise ValueError(f"expected http, and {url} is not")
        return url


def create(*_: object) -> Any:
    raise AssertionError("nothing is made of a configuration that is only read")


FAKES = Registry(
    receivers={
        "otlp": ReceiverComponent(settings=Receiver, create=create, listens=True),
        "hostmetrics": ReceiverComponent(settings=Receiver, create=create, signals=frozenset({Signal.METRICS})),
    },
    exporters={"store": ExporterComponent(settings=Exporter, create=create)},
)

SERVICE = """
service:
  pipelines:
    logs: {receivers: [otlp], exporters: [store]}
"""

Loader = Callable[..., Config]


@pytest.fixture
def registry() -> Registry:
    return FAKES


@pytest.fixture
def load_text(tmp_path: Path) -> Loader:
    """Load a configuration from its text; keyword arguments are environment variables."""

    def load_it(text: str, service: str = SERVICE, /, **variables: str) -> Config:
        path = tmp_path / "hub.yaml"
        path.write_text(text + service)
        return load(path, registry=FAKES, schemes={"env": Scheme(variables.get)})

    return load_it


@pytest.fixture
def problems_of(load_text: Loader, tmp_path: Path) -> Callable[..., list[str]]:
    """Load a configuration that is wrong and return its problems, one a line, without the folder's name."""

    def problems(text: str, service: str = SERVICE, /, **variables: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load_text(text, service, **variables)
        return str(caught.value).replace(f"{tmp_path}/", "").splitlines()

    return problems
