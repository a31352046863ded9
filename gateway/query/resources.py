"""Which hosts and services there are to choose from."""

from __future__ import annotations

from gateway.query.store import Store

MOST = 500


def hosts(store: Store) -> list[str]:
    """Return the first names of hosts, at most `MOST`."""
    rows = store.rows(
        "SELECT DISTINCT host_name FROM resource WHERE host_name IS NOT NULL ORDER BY 1 LIMIT %(most)s", {"most": MOST}
    )
    return [row["host_name"] for row in rows]


def services(store: Store) -> list[str]:
    """Return the first names of services, at most `MOST`."""
    rows = store.rows(
        "SELECT DISTINCT service_name FROM resource WHERE service_name IS NOT NULL ORDER BY 1 LIMIT %(most)s",
        {"most": MOST},
    )
    return [row["service_name"] for row in rows]
