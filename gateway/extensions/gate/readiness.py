"""Asking the gateway whether it is ready, and not being shaken by a single answer."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass

import httpx
import msgspec

_MAX_BODY = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether the gateway is ready, and why not."""

    ready: bool
    reason: str


READY = Answer(True, "the gateway is ready")


class _Dependency(msgspec.Struct):
    name: str
    state: str
    detail: str = ""


class _Readiness(msgspec.Struct):
    dependencies: list[_Dependency]


def ask(api: str, timeout: float) -> Answer:
    """Ask the API front at a base URL. Whatever goes wrong within ``timeout`` seconds is an answer as well: not ready.

    Only a 200 counts: a degraded gateway could not record what a webhook asks for.
    """
    try:
        status, body = asyncio.run(_get(api, "/api/v1/ready?strict=true", within=timeout))
    except TimeoutError:
        return Answer(False, f"the gateway did not answer within {timeout:g} s")
    except (httpx.HTTPError, ssl.SSLError) as error:  # the latter when the front wants a client certificate
        return Answer(False, f"the gateway cannot be asked: {str(error) or type(error).__name__}")
    return READY if status == 200 else Answer(False, f"the gateway answers {status}{_reasons(body)}")


async def _get(api: str, path: str, *, within: float) -> tuple[int, bytes]:
    """Return the status and the start of the body, in so many seconds for all of it."""
    url = api.replace("https+insecure:", "https:") + path
    verify = not api.startswith("https+insecure:")
    async with (
        # The client's own limit starts anew with each byte that trickles in.
        asyncio.timeout(within),
        # The front is on this machine; no proxy is.
        httpx.AsyncClient(verify=verify, timeout=None, trust_env=False) as client,  # noqa: S113 - see above
        client.stream("GET", url) as response,
    ):
        body = b""
        if response.status_code != 200:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MAX_BODY:
                    break
        return response.status_code, body


def _reasons(body: bytes) -> str:
    """Return which dependencies are not well, as the answer of a gateway says."""
    with contextlib.suppress(msgspec.MsgspecError):
        found = msgspec.json.decode(body, type=_Readiness).dependencies
        bad = [f"{one.name} is {one.state}{one.detail and f' ({one.detail})'}" for one in found if one.state != "ok"]
        return f": {', '.join(bad)}"[:500] if bad else ""
    return ""


class Hysteresis:
    """Whether the gate should be open, after each answer. Closed until proven ready."""

    def __init__(self, open_after: int, close_after: int) -> None:
        self._open_after, self._close_after = open_after, close_after
        self._good = self._bad = 0
        self.open = False

    def note(self, *, ready: bool) -> bool:
        """Take one answer into account, and return whether the gate should be open."""
        self._good, self._bad = (self._good + 1, 0) if ready else (0, self._bad + 1)
        if self._good >= self._open_after:
            self.open = True
        elif self._bad >= self._close_after:
            self.open = False
        return self.open
