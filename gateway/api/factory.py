"""How the assembly makes the API front."""

from __future__ import annotations

from gateway.api.app import create_app
from gateway.api.config import ApiConfig
from gateway.api.service import ApiService
from gateway.api.view import HasRouters, HubView
from gateway.pipeline.access import Authenticators
from gateway.pipeline.instruments import connections_refused
from gateway.pipeline.interfaces import Service


def create(name: str, config: ApiConfig, view: HubView, authenticators: Authenticators) -> Service:
    """Make the API front of a hub."""
    authenticator = None if config.auth is None else authenticators[config.auth.authenticator]
    routers = [router for each in view.services.values() if isinstance(each, HasRouters) for router in each.routers()]
    app = create_app(config, view, authenticator, routers, f"extensions.{name}")
    return ApiService(name, config, app, connections_refused(view.meter), view.bodies)
