"""Where a Loki is, for whoever reads the logs that an exporter has sent there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class LokiAccess:
    """Where a Loki is and how it is entered. `url` may carry a user and password; files are in PEM."""

    url: str = field(repr=False)
    tenant: str | None = None
    token: str | None = field(default=None, repr=False)
    basic: tuple[str, str] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @property
    def shown(self) -> str:
        """The address, as it may be shown."""
        return re.sub(r"//\S*@", "//", self.url)


@runtime_checkable
class HasLoki(Protocol):
    """Settings of an exporter whose logs can be read back by Loki's API."""

    @property
    def loki(self) -> LokiAccess:
        """How to enter it."""
        ...
