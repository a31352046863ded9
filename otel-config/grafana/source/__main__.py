"""Write the dashboards: ``python otel-config/grafana/source``. With ``--check``, only say which are not up to date."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cluster
import homelab
import hub
import logs_view
import reading
import trace_view
import traces_view

import systemd

FOLDER = Path(__file__).parents[1] / "dashboards"
DASHBOARDS = {
    "homelab": homelab.DASHBOARD,
    "systemd": systemd.DASHBOARD,
    "cluster": cluster.DASHBOARD,
    "reading": reading.DASHBOARD,
    "hub": hub.DASHBOARD,
    "logs": logs_view.DASHBOARD,
    "traces": traces_view.DASHBOARD,
    "trace": trace_view.DASHBOARD,
}


def main(arguments: list[str]) -> int:
    """Write or check all files; return the exit code."""
    FOLDER.mkdir(exist_ok=True)
    stale = []
    for name, dashboard in DASHBOARDS.items():
        path = FOLDER / f"{name}.json"
        text = json.dumps(dashboard.json(), indent=2, ensure_ascii=False) + "\n"
        if not path.exists() or path.read_text("utf-8") != text:
            stale.append(path.name)
            if "--check" not in arguments:
                path.write_text(text, "utf-8")
    if stale:
        print(f"{'not up to date' if '--check' in arguments else 'written'}: {', '.join(stale)}")
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
