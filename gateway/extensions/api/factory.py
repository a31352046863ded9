"""What the API front is, and how the assembly makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.component.declaration import ExtensionComponent
from gateway.component.interfaces import Service
from gateway.extensions.api.config import ApiConfig

if TYPE_CHECKING:
    from gateway.extensions.view import HubView


def create(name: str, config: ApiConfig, view: HubView) -> Service:
    """Make the API front of a hub, with the routes of the services that have some."""
    from gateway.extensions.api.app import create_app
    from gateway.extensions.api.service import ApiService
    from gateway.extensions.view import HasRouters
    from gateway.pipeline.instruments import connections_refused

    authenticator = None if config.auth is None else view.authenticators[config.auth.authenticator]
    routers = [router for each in view.services.values() if isinstance(each, HasRouters) for router in each.routers()]
    app = create_app(config, view, authenticator, routers, f"extensions.{name}")
    return ApiService(name, config, app, connections_refused(view.meter), view.bodies)


COMPONENT = ExtensionComponent(settings=ApiConfig, create=create, shows_others=True)
