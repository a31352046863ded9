"""Who may call what: each handler says its scope, this guard asks for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from gateway.extensions.api.problems import ProblemError
from gateway.extensions.api.request_span import begin
from gateway.net.access import Authenticator, Scope, UnauthenticatedError

_Connection = ASGIConnection[Any, Any, Any, Any]
Guard = Callable[[_Connection, BaseRouteHandler], Awaitable[None]]

_HOW = (
    "this needs a token, and the API asks nobody for one yet: set extensions.api.auth.authenticator to an extension "
    "such as tokens, name both in service.extensions, and make a token by `obs-hub token create NAME --scope admin`"
)


def guard(authenticator: Authenticator | None, *, reads_are_open: bool) -> Guard:
    """Make the guard of an application.

    A handler's ``opt["scope"]`` is what its caller must be allowed; without one, and with the scope ``read`` where
    reading is open, nobody is asked.
    """

    async def check(connection: _Connection, handler: BaseRouteHandler) -> None:
        scope: Scope | None = handler.opt.get("scope")
        if scope is None or (scope is Scope.READ and reads_are_open):
            begin(connection.scope, known=False)
            return
        if authenticator is None:
            raise ProblemError(HTTPStatus.FORBIDDEN, _HOW)
        values = connection.headers.getall("authorization", [])
        if len(values) > 1:
            raise UnauthenticatedError("the request has several authorization headers; send one", presented=True)
        peer = connection.client.host if connection.client else ""
        authenticator.authenticate(values[0] if values else None, peer, scope)
        begin(connection.scope, known=True)

    return check
