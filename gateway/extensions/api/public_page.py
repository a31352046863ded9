"""The page for the public: how the hub is, as files that any web server can serve.

It shows no address, no name of a machine, and no version but the hub's own.
"""

from __future__ import annotations

import ssl
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec

from gateway.extensions.api.status import HubStatus, State
from gateway.extensions.api.templates import FOLDER, rendered
from gateway.files.durability import replace_file

_ASSETS = ("style.css", "icon.svg", "favicon.ico")
_SECONDS = 10.0


class StatusUnavailableError(Exception):
    """The hub answers, and not with its status. The message says why."""


def read_status(url: str, token: str | None) -> HubStatus | None:
    """Ask the API front at a URL for its status; None when nobody answers. Raises `StatusUnavailableError`."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    trusted = ssl.create_default_context()  # what this machine trusts, or SSL_CERT_FILE
    try:
        answer = httpx.get(f"{url}/api/v1/status", headers=headers, timeout=_SECONDS, verify=trusted, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):  # somebody answers, who may well be the hub
            raise StatusUnavailableError(f"{url} has no certificate that is trusted for that name: {error}") from error
        if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL):
            raise StatusUnavailableError(f"{url} cannot be asked: {error}") from error
        return None
    if answer.status_code >= 500:
        return None
    try:
        if answer.status_code == 200:
            return msgspec.json.decode(answer.content, type=HubStatus)
        detail = str(answer.json().get("detail", ""))
    except (ValueError, AttributeError):
        detail = "it is no API front of a hub"
    raise StatusUnavailableError(f"{url} answers {answer.status_code}: {detail}")


def build(folder: Path, status: HubStatus | None, title: str, at: datetime | None = None) -> None:
    """Write the page: ``index.html``, ``status.json`` and what they need. Each file is replaced as a whole.

    ``status`` is None when the hub does not answer, and then the page says that. Raises `OSError`.
    """
    at = (at or datetime.now(UTC)).astimezone(UTC)
    folder.mkdir(parents=True, exist_ok=True)
    for name in _ASSETS:
        _replace(folder / name, (FOLDER / "static" / name).read_bytes())
    page = rendered("public.html", status=status, title=title, at=at)
    _replace(folder / "status.json", msgspec.json.format(msgspec.json.encode(_facts(status, at))) + b"\n")
    _replace(folder / "index.html", page.encode())


def _facts(status: HubStatus | None, at: datetime) -> Mapping[str, Any]:
    if status is None:
        return {"at": at, "status": State.DOWN, "exporters": {}}
    exporters = {name: exporter.state for name, exporter in status.exporters.items()}
    return {"at": at, "status": status.status, "store": status.store.state, "exporters": exporters}


def _replace(path: Path, content: bytes) -> None:
    """Replace a file, which keeps its mode; a new one is for whoever the web server runs as to read."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        mode = 0o644
    else:
        mode = stat.S_IMODE(found.st_mode) if stat.S_ISREG(found.st_mode) else 0o644
    replace_file(path, content, mode=mode, lasting=False)
