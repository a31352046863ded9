"""The settings of the extension ``tokens``."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field

from gateway.base.settings import Duration, Settings

DEFAULT_FILE = "tokens.json"


class FailureSettings(Settings):
    """How many failed attempts one address may make before it is told to wait."""

    limit: int = Field(default=10, ge=1)
    """Failed attempts within the window. Further ones get ``RESOURCE_EXHAUSTED``, 429; valid tokens still work."""

    window: Duration = Field(default=timedelta(minutes=1), gt=timedelta(0))
    """How long failed attempts count."""


class TokensConfig(Settings):
    """Bearer tokens, made and revoked by ``obs-hub token``.

    A listener asks for one by ``auth: {authenticator: tokens}``.
    """

    file: Path | None = None
    """Where they are kept, hashed. ``null``: ``tokens.json`` in the data directory."""

    failures: FailureSettings = FailureSettings()

    def path(self, data_dir: Path | None) -> Path:
        """Return the file; a relative one lies in the data directory. Raises `ValueError` where there is none."""
        file = self.file or Path(DEFAULT_FILE)
        if data_dir is None and not file.is_absolute():
            raise ValueError(f"without a data directory the file of tokens needs an absolute path, found {file}")
        return file if data_dir is None else data_dir / file
