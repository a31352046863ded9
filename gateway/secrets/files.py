"""Secrets that somebody else put into files: systemd's credentials, Kubernetes' mounted secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_LARGEST = 2**20
"""Bytes. systemd's credentials and Kubernetes' secrets may have no more either."""


def read_file(path: str) -> str | None:
    """Return what a file holds, without the line breaks at its end; None when there is no such file.

    Raises `LookupError` that says what is wrong with it, and never what it holds.
    """
    place = Path(path)
    if not place.is_absolute():
        raise LookupError("expected a path that begins with '/'")
    try:
        with place.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LookupError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > _LARGEST:
        raise LookupError(f"{path} has more than {_LARGEST} bytes; a secret is shorter")
    try:
        return content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise LookupError(f"{path} is not text in UTF-8") from None


def read_credential(name: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return a credential that systemd handed to this service; None when it handed over others only.

    Raises `LookupError` where it handed over none at all, and as `read_file` does.
    """
    if "/" in name or name in (".", ".."):
        raise LookupError("expected the name of a credential, without '/'; files elsewhere are ${file:/path}")
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise LookupError(
            "systemd handed over no credentials ($CREDENTIALS_DIRECTORY is not set); the unit needs "
            f"LoadCredential={name}:/path/to/file"
        )
    return read_file(str(Path(folder) / name))
