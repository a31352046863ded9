"""Content of published pages, and pages made of it, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gateway.extensions.api.status import Dependency, ExporterStatus, HubStatus, PipelineStatus, State
from gateway.publishing.content import Content, load

SITE = "title: Home\ntagline: It hums.\ndescription: Machines at home.\n"
STATUS = """\
hub: Gateway
components:
  - name: Gateway
    current: [hub]
    records: {metric: obs_hub.in_flight.size, service: obs-hub}
  - name: Store
    current: [store, exporters/timescale]
    records: {metric: obs_hub.circuit.open, where: {exporter: timescale}}
    at_most: 0
  - name: Attic
    records: {metric: system.uptime, host: nas-17.secret.example}
"""


def content(folder: Path, files: Mapping[str, str] | None = None) -> Content:
    """Content of these files, beside a site of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"site.yaml": SITE, **(files or {})}.items():
        (folder / name).write_text(text)
    return load(folder)


def hub_status(state: State = State.OK) -> HubStatus:
    """What a hub says of itself: with an address, a server and names that are nobody's business."""
    return HubStatus(
        "7.8.9",
        state,
        5.0,
        {"otlp grpc": "10.1.2.3:4317"},
        {"metrics": PipelineStatus(["otlp"], ["timescale", "otlp/vendor-we-pay"])},
        {
            "timescale": ExporterStatus(["metrics"], state, 0, 10, 3),
            "otlp/vendor-we-pay": ExporterStatus(["metrics"], State.OK, 0, 10, 0),
        },
        Dependency("store", state, "PostgreSQL 18 at db.internal"),
    )


PRIVATE = ("7.8.9", "10.1.2.3", "vendor-we-pay", "db.internal")
"""What a page may not tell of it."""
