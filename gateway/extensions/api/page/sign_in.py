"""Signing in: a browser cannot send a token with each request, so it shows one once and keeps the name of a session.

The session opens what only reads, and only on the page. The token itself stays in the memory of the gateway, and is
looked at anew by every request: one that is revoked or expired ends its sessions.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from litestar import MediaType, Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.exceptions import HTTPException

from gateway.component import DeliveryError, OverloadedError
from gateway.extensions.api.access import Access
from gateway.net.access import PermissionDeniedError, Scope, UnauthenticatedError

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECONDS = 30 * 86_400
"""How long a session lasts after it was last used."""
_MOST = 1000
_MOST_TOKEN = 1000
_COOKIE = "obs-hub"


class Sessions:
    """Who has signed in, by what their browsers keep. The one used longest ago gives way beyond ``most``."""

    def __init__(self, most: int = _MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._tokens: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def begin(self, authorization: str) -> str:
        """Return the name of a new session."""
        name = secrets.token_urlsafe(32)
        self._tokens[name] = self._clock(), authorization
        if len(self._tokens) > self._most:
            self._tokens.popitem(last=False)
        return name

    def find(self, name: str) -> str | None:
        """Return the header ``authorization`` of a session; None when there is no such session."""
        found = self._tokens.pop(name, None)
        if found is None or self._clock() - found[0] > _SECONDS:
            return None
        self._tokens[name] = self._clock(), found[1]
        return found[1]

    def end(self, name: str) -> None:
        """Forget a session."""
        self._tokens.pop(name, None)


class Door:
    """Lets readers of the page in: everybody where reading is open, and else who sends a token or has signed in."""

    def __init__(self, access: Access, *, tls: bool) -> None:
        self._access = access
        self._sessions = Sessions()
        # With this prefix browsers take it from this host alone, by TLS alone.
        self._cookie = f"__Host-{_COOKIE}" if tls else _COOKIE
        self._tls = tls

    @property
    def asks(self) -> bool:
        """Whether anybody is asked for a token."""
        return not self._access.reads_are_open

    @property
    def opens(self) -> bool:
        """Whether there is a token that opens it."""
        return self._access.authenticator is not None

    def admit(self, request: Request[Any, Any, Any]) -> None:
        """Let a reader in, or raise what `Access.admit` does."""
        authorization = self._authorization(request)
        if self.asks and self.opens and authorization is None and "authorization" not in request.headers:
            # No attempt, of which an address has so many: a tab whose session has ended makes some by itself.
            raise UnauthenticatedError("sign in at /sign-in, or send a token", presented=False)
        self._access.admit(request, Scope.READ, authorization)

    def still_admits(self, request: Request[Any, Any, Any]) -> bool:
        """Tell whether a reader who was let in would be now: not who has signed out, or has a token that is revoked."""
        return self._access.still_admits(request, Scope.READ, self._authorization(request))

    def signed_in(self, request: Request[Any, Any, Any]) -> bool:
        """Tell whether a browser has a session."""
        return self.asks and self._authorization(request) is not None

    def begin(self, request: Request[Any, Any, Any], token: str) -> Cookie:
        """Return the cookie of a session for who shows a token. Raises as `admit`."""
        authorization = f"Bearer {token.strip()[:_MOST_TOKEN]}"
        self._access.admit(request, Scope.READ, authorization)
        self.end(request)
        return self._made(self._sessions.begin(authorization), _SECONDS)

    def end(self, request: Request[Any, Any, Any]) -> Cookie:
        """End a browser's session, and return the cookie that takes its cookie away."""
        self._sessions.end(request.cookies.get(self._cookie, ""))
        return self._made("", 0)

    def _authorization(self, request: Request[Any, Any, Any]) -> str | None:
        name = request.cookies.get(self._cookie)
        return None if name is None else self._sessions.find(name)

    def _made(self, value: str, seconds: int) -> Cookie:
        return Cookie(
            self._cookie, value=value, max_age=seconds, path="/", httponly=True, samesite="strict", secure=self._tls
        )


Form = Callable[[Request[Any, Any, Any], HTTPStatus, str, str], Awaitable[Response[Any]]]
"""Shows the form: with which status, what is wrong, and where it leads in the end."""


def sign_in_routes(door: Door, form: Form) -> Sequence[Any]:
    """Make the handlers of signing in and out.

    They change something for the browser that asks alone; a form of another site is refused before it comes here.
    """

    @get("/sign-in", include_in_schema=False)
    async def sign_in_form(request: Request[Any, Any, Any]) -> Response[Any]:
        if not door.asks:
            return _led_to("/")
        return await form(request, HTTPStatus.OK, "", request.query_params.get("next", "/"))

    @post("/sign-in", include_in_schema=False)
    async def sign_in(request: Request[Any, Any, Any]) -> Response[Any]:
        if not door.asks:
            return _led_to("/")
        told = await request.form()
        token, target = str(told.get("token") or ""), str(told.get("next") or "/")
        if not token.strip():
            return await form(request, HTTPStatus.BAD_REQUEST, "There was no token in the field.", target)
        try:
            cookie = door.begin(request, token)
        except (DeliveryError, HTTPException) as error:
            return await _refused(request, error, form, target)
        answer = _led_to(target)
        answer.set_cookie(cookie)
        return answer

    @post("/sign-out", include_in_schema=False, sync_to_thread=False)
    def sign_out(request: Request[Any, Any, Any]) -> Response[Any]:
        cookie = door.end(request)
        answer = _led_to("/")
        answer.set_cookie(cookie)
        return answer

    return [sign_in_form, sign_in, sign_out]


async def _refused(request: Request[Any, Any, Any], error: Exception, form: Form, target: str) -> Response[Any]:
    """Show the form again, with what to do."""
    match error:
        case OverloadedError():
            answer = await form(
                request,
                HTTPStatus.TOO_MANY_REQUESTS,
                f"Too many attempts failed from your address. Wait {max(1, round(error.retry_after))} seconds.",
                target,
            )
            answer.headers["retry-after"] = str(max(1, round(error.retry_after)))
            return answer
        case PermissionDeniedError():
            said = "That token is known, and may not read. Make one that may: obs-hub token create me --scope read"
            return await form(request, HTTPStatus.FORBIDDEN, said, target)
        case UnauthenticatedError():
            return await form(
                request, HTTPStatus.UNAUTHORIZED, f"{_sentence(error)} Paste a token of this hub, all of it.", target
            )
        case HTTPException():
            return await form(request, HTTPStatus(error.status_code), _sentence(error.detail), target)
        case _:
            raise error


def _sentence(said: object) -> str:
    text = str(said)
    return f"{text[:1].upper()}{text[1:]}."


def _led_to(target: str) -> Response[Any]:
    """Lead to a page of this hub: nothing else is a path with one slash before it."""
    safe = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    location = target if safe else "/"
    return Response(
        b"", status_code=HTTPStatus.SEE_OTHER, headers={"location": _ascii(location)}, media_type=MediaType.TEXT
    )


def _ascii(url: str) -> str:
    return quote(url, safe="/?&=%+:,;@!$'()*~-._")
