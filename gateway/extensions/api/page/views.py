"""Which views there are, in the order of the navigation."""

from __future__ import annotations

from gateway.extensions.api.page import events, health, hosts, logs, metrics, overview, runs, traces

VIEWS = (
    overview.VIEW,
    hosts.VIEW,
    hosts.BY_QUERY,
    metrics.VIEW,
    logs.VIEW,
    traces.LIST,
    traces.ONE,
    events.VIEW,
    runs.VIEW,
    health.VIEW,
)
