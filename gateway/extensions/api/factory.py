"""What the API front is, and how the assembly makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.component.declaration import ExtensionComponent
from gateway.component.interfaces import Service
from gateway.extensions.api.config import ApiConfig
from gateway.net.loki import HasLoki, LokiAccess
from gateway.store import StoreSettings

if TYPE_CHECKING:
    from gateway.extensions.view import HubView


def create(name: str, config: ApiConfig, view: HubView) -> Service:
    """Make the API front of a hub, with the routes of the services that have some."""
    from gateway.extensions.api.app import create_app
    from gateway.extensions.api.queries import Queries
    from gateway.extensions.api.service import ApiService
    from gateway.extensions.view import HasRouters
    from gateway.pipeline.instruments import connections_refused
    from gateway.query.service import QueryService

    authenticator = None if config.auth is None else view.authenticators[config.auth.authenticator]
    routers = [router for each in view.services.values() if isinstance(each, HasRouters) for router in each.routers()]
    queries = Queries(QueryService(config.query, lambda: _reader_dsn(view), _loki(view)))
    front = create_app(config, view, queries, authenticator, routers, f"extensions.{name}")
    return ApiService(name, config, front, connections_refused(view.meter), view.bodies, queries)


def _reader_dsn(view: HubView) -> str | None:
    """Return how the store is read: as the reader that the configuration names, or as who writes, who may do it too."""
    used = (view.config.exporters[name] for name in view.config.used_exporters)
    named = (each.reader_connection_string for each in used if isinstance(each, StoreSettings))
    return next((dsn for dsn in named if dsn), None) or view.dsn


def _loki(view: HubView) -> LokiAccess | None:
    """Return where logs are that go to Loki."""
    used = (view.config.exporters[name] for name in view.config.used_exporters)
    return next((each.loki for each in used if isinstance(each, HasLoki)), None)


COMPONENT = ExtensionComponent(settings=ApiConfig, create=create, shows_others=True)
