"""The application: every route there is, and what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from litestar import Litestar, MediaType, Router
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from gateway import __version__
from gateway.api.access import guard
from gateway.api.config import ApiConfig
from gateway.api.page import page_routes
from gateway.api.problems import on_access_error, on_exception, on_http_exception
from gateway.api.routes import routes
from gateway.api.shell import Shell
from gateway.api.view import HubView
from gateway.pipeline import DeliveryError
from gateway.pipeline.access import Authenticator
from gateway.pipeline.listeners import split_endpoint

if TYPE_CHECKING:
    from litestar.types import ASGIApp

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_MAX_BODY = 2**20


def create_app(
    config: ApiConfig, view: HubView, authenticator: Authenticator | None = None, routers: Sequence[Router] = ()
) -> ASGIApp:
    """Make the application of a hub. ``routers`` are those of other parts of the gateway, under ``/api/v1`` as well."""
    app = Litestar(
        route_handlers=[*page_routes(view), Router("/api/v1", route_handlers=[*routes(view), *routers])],
        guards=[guard(authenticator, reads_are_open=config.reads_are_open)],
        exception_handlers={
            HTTPException: on_http_exception,
            DeliveryError: on_access_error,
            Exception: on_exception,
        },
        openapi_config=OpenAPIConfig(
            title="Observability Hub",
            version=__version__,
            description="Status, synthetic checks and automation of the hub. Telemetry itself comes in as OTLP.",
            path="/api/v1/openapi",
            render_plugins=[JsonRenderPlugin(path="/openapi.json", media_type=MediaType.JSON)],
            components=Components(security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}),
        ),
        logging_config=None,  # the gateway configures logging, not this application
        request_max_body_size=_MAX_BODY,
    )
    return Shell(app, view.tracer, _hosts(config), tls=config.tls is not None)


def _hosts(config: ApiConfig) -> set[str]:
    """Return the names that requests may be for; none stands for any."""
    host, _ = split_endpoint(config.endpoint)
    named = set(config.allowed_hosts)
    if not named and not config.reads_are_open and config.auth is not None:
        return set()
    if host in ("", "0.0.0.0", "::") and not named:  # noqa: S104 - not to listen
        return set()
    return {*_LOOPBACK_NAMES, *named, *([host] if host else [])}
