"""How the assembly makes the API front."""

from __future__ import annotations

from gateway.component.interfaces import Service
from gateway.extensions.api.app import create_app
from gateway.extensions.api.config import ApiConfig
from gateway.extensions.api.service import ApiService
from gateway.extensions.api.view import HasRouters, HubView
from gateway.net.access import Authenticators
from gateway.pipeline.instruments import connections_refused


def create(name: str, config: ApiConfig, view: HubView, authenticators: Authenticators) -> Service:
    """Make the API front of a hub."""
    authenticator = None if config.auth is None else authenticators[config.auth.authenticator]
    routers = [router for each in view.services.values() if isinstance(each, HasRouters) for router in each.routers()]
    app = create_app(config, view, authenticator, routers, f"extensions.{name}")
    return ApiService(name, config, app, connections_refused(view.meter), view.bodies)
