"""How the hub is now, asked of its API front."""

from __future__ import annotations

import ssl

import httpx
import msgspec

from gateway.extensions.api.status import HubStatus, State
from gateway.publishing.content import Component

_SECONDS = 10.0
_BADNESS = (State.OK, State.DEGRADED, State.DOWN)


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


def state_of(component: Component, status: HubStatus | None) -> State | None:
    """Return how a component is by what the hub says: None where it says nothing of it.

    ``status`` is None when the hub does not answer. Then the hub is down, and of the others nothing is known.
    """
    if status is None:
        return State.DOWN if "hub" in component.current else None
    found = [state for part in component.current if (state := _part(part, status)) is not None]
    return max(found, key=_BADNESS.index, default=None)


def _part(part: str, status: HubStatus) -> State | None:
    if part == "hub":
        # It answers. That a destination is away is that destination's matter, unless nothing is taken any more.
        return State.DOWN if status.status is State.DOWN else State.OK
    if part == "store":
        return status.store.state
    exporter = status.exporters.get(part.removeprefix("exporters/"))
    return None if exporter is None else exporter.state
