"""The views of the page, as documents name them, and paths that show something of a homelab in each."""

from __future__ import annotations

from tests.support.databases import Database

VIEWS = {
    "overview": "/",
    "host": "/hosts/nas?range=1h",
    "metrics": "/metrics?name=system.cpu.utilization&by=cpu.mode&range=1h",
    "logs": "/logs?host=nas&range=15m",
    "traces": "/traces?range=1h",
    "events": "/events?range=6h",
    "runs": "/runs",
    "health": "/health",
}


def newest_trace(database: Database) -> str:
    """The path of the newest trace whose spans are all there."""
    trace_id = database.value(
        "SELECT trace_id FROM span GROUP BY trace_id HAVING count(*) > 5 ORDER BY min(time) DESC LIMIT 1"
    )
    return f"/traces/{trace_id}"
