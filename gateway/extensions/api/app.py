"""The application: every route there is, and what they have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from litestar import Litestar, Router
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.routes import ASGIRoute, HTTPRoute

from gateway import __version__
from gateway.component import DeliveryError
from gateway.extensions.api.access import Access
from gateway.extensions.api.config import ApiConfig
from gateway.extensions.api.documents import Document, document_routes
from gateway.extensions.api.middleware import RequestMiddleware
from gateway.extensions.api.page.shell import Shell
from gateway.extensions.api.page.sign_in import Door
from gateway.extensions.api.page.views import VIEWS
from gateway.extensions.api.problems import on_access_error, on_exception, on_http_exception
from gateway.extensions.api.prometheus import prometheus_route
from gateway.extensions.api.queries import Queries
from gateway.extensions.api.routes import routes
from gateway.extensions.api.tempo import tempo_route
from gateway.extensions.view import HubView
from gateway.net.access import Authenticator, Scope
from gateway.net.hosts import Hosts

if TYPE_CHECKING:
    from litestar.types import ASGIApp

_MAX_BODY = 2**20
_OPENAPI = "/api/v1/openapi"


@dataclass(frozen=True, slots=True)
class Front:
    """What is served. ``close`` lets open pages go, so that the end of the hub does not wait for them."""

    app: ASGIApp
    close: Callable[[], None]


def create_app(
    config: ApiConfig,
    view: HubView,
    queries: Queries,
    authenticator: Authenticator | None = None,
    routers: Sequence[Router] = (),
    setting: str = "extensions.api",
) -> Front:
    """Make the application of a hub. ``routers`` are those of other parts of the gateway, under ``/api/v1`` as well.

    ``setting`` is where its settings stand, for error messages. ``queries`` read the store.
    """
    document = Document()
    access = Access(authenticator, reads_are_open=config.reads_are_open)
    shell = Shell(view, queries, Door(access, tls=config.tls is not None), VIEWS, config.links)
    app = Litestar(
        route_handlers=[
            *shell.routes(),
            *document_routes(document, shell.around),
            Router("/api/v1", route_handlers=[*routes(view, reads_are_open=config.reads_are_open), *routers]),
            *((prometheus_route(queries), tempo_route(queries)) if config.query.enabled else ()),
        ],
        guards=[access.guard],
        exception_handlers={
            HTTPException: on_http_exception,
            DeliveryError: on_access_error,
            Exception: on_exception,
        },
        openapi_config=OpenAPIConfig(
            title="Observability Hub",
            version=__version__,
            description="Status, synthetic checks and automation of the hub. Telemetry itself comes in as OTLP.",
            path=_OPENAPI,
            render_plugins=[document],
            components=Components(security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}),
        ),
        logging_config=None,  # the gateway configures logging, not this application
        request_max_body_size=_MAX_BODY,
    )
    _check_declared(app)
    if config.reads_are_open:
        _describe_reads_as_open(app)
    wrapped = RequestMiddleware(app, view.tracer, view.meter, Hosts(setting, config), tls=config.tls is not None)
    return Front(wrapped, shell.close)


def _describe_reads_as_open(app: Litestar) -> None:
    """Let the OpenAPI document say what is so: a token may be given for reading, and need not be."""
    for route in app.routes:
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            if handler.opt.get("scope") is Scope.READ:
                handler.security = [{}, *(handler.security or [])]


def _check_declared(app: Litestar) -> None:
    """Raise `ValueError` for a route of the API that does not say who may call it: forgetting must not open it."""
    for route in app.routes:
        if isinstance(route, ASGIRoute) and "scope" not in route.route_handler.opt:
            raise ValueError(f"{route.path} has no opt['scope']; None stands for everybody")
        if not isinstance(route, HTTPRoute) or not route.path.startswith("/api/v1/"):
            continue
        if route.path.startswith(_OPENAPI):
            continue  # Litestar's own
        for handler in route.route_handlers:
            if handler.include_in_schema and "scope" not in handler.opt and "OPTIONS" not in handler.http_methods:
                raise ValueError(f"{handler} at {route.path} has no opt['scope']; None stands for everybody")
