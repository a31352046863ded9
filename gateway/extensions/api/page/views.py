"""Which views there are, in the order of the navigation."""

from __future__ import annotations

from gateway.extensions.api.page import health, hosts, metrics, overview

VIEWS = (overview.VIEW, hosts.VIEW, metrics.VIEW, health.VIEW)
