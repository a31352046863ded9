"""Grafana's dashboard model, as much of it as the dashboards use: rows, places, queries, variables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

STORE = {"type": "grafana-postgresql-datasource", "uid": "obs-hub"}
LOKI = {"type": "loki", "uid": "obs-hub-loki"}
TEMPO_UID = "obs-hub-tempo"

SCHEMA_VERSION = 41
WIDTH = 24


@dataclass(frozen=True)
class Panel:
    """A panel without its place. ``width`` is in 24ths of the page, ``height`` in lines of Grafana's grid."""

    body: Json
    width: int = 12
    height: int = 8


@dataclass(frozen=True)
class Row:
    """A row of panels, with a heading. A collapsed one runs no query until it is opened."""

    title: str
    panels: Sequence[Panel]
    collapsed: bool = False


@dataclass(frozen=True)
class Dashboard:
    """A dashboard, and the name of its file."""

    uid: str
    title: str
    description: str
    variables: Sequence[Json]
    rows: Sequence[Row]
    since: str = "now-6h"
    refresh: str = "1m"
    tags: Sequence[str] = field(default_factory=list)

    def json(self) -> Json:
        """Return the dashboard as Grafana's file provisioning reads it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["observability-hub", *self.tags],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "fiscalYearStartMonth": 0,
            "timezone": "browser",
            "weekStart": "",
            "refresh": self.refresh,
            "time": {"from": self.since, "to": "now"},
            "timepicker": {},
            "annotations": {"list": []},
            "links": [
                {
                    "title": "Observability Hub",
                    "type": "dashboards",
                    "tags": ["observability-hub"],
                    "asDropdown": True,
                    "includeVars": False,
                    "keepTime": True,
                    "targetBlank": False,
                    "icon": "external link",
                    "tooltip": "",
                    "url": "",
                }
            ],
            "templating": {"list": list(self.variables)},
            "panels": list(_placed(self.rows)),
        }


def _placed(rows: Sequence[Row]) -> Iterator[Json]:
    """Yield rows and panels with ids and places: panels fill lines from the left."""
    number, top = 0, 0
    for row in rows:
        number += 1
        heading = {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": row.collapsed,
            "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
            "panels": [],
        }
        placed, left, top, line = [], 0, top + 1, 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                left, top, line = 0, top + line, 0
            number += 1
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            placed.append({"id": number, **panel.body, "gridPos": place})
            left, line = left + panel.width, max(line, panel.height)
        top += line
        # Grafana keeps the panels of a collapsed row inside it, and those of an open one beside it.
        yield {**heading, "panels": placed} if row.collapsed else heading
        if not row.collapsed:
            yield from placed


# -- Queries -----------------------------------------------------------------------------------------------------------


def sql(text: str, shape: str = "time_series", ref: str = "A") -> Json:
    """Return a target that queries the store. ``shape`` is time_series or table."""
    return {
        "refId": ref,
        "datasource": STORE,
        "editorMode": "code",
        "format": shape,
        "rawQuery": True,
        "rawSql": text.strip(),
    }


def logql(text: str, kind: str = "range", ref: str = "A", legend: str = "") -> Json:
    """Return a target that queries Loki. ``kind`` is range or instant."""
    target = {"refId": ref, "datasource": LOKI, "editorMode": "code", "expr": text.strip(), "queryType": kind}
    return {**target, "legendFormat": legend} if legend else target


# -- Variables ---------------------------------------------------------------------------------------------------------


def from_sql(name: str, label: str, query: str, description: str = "", *, hidden: bool = False) -> Json:
    """Return a variable whose values a query names. Shown ones allow several, and all; hidden ones have one value."""
    chosen = {"text": "All", "value": "$__all"} if not hidden else {}
    return {
        "name": name,
        "label": label,
        "description": description,
        "type": "query",
        "datasource": STORE,
        "query": query.strip(),
        "definition": query.strip(),
        "regex": "",
        "refresh": 2,
        "sort": 0,
        "hide": 2 if hidden else 0,
        "multi": not hidden,
        "includeAll": not hidden,
        "options": [],
        "current": chosen,
        "skipUrlSync": hidden,
    }


def custom(name: str, label: str, values: Sequence[str], description: str) -> Json:
    """Return a variable with fixed values, of which people choose some or all."""
    return {
        "name": name,
        "label": label,
        "description": description,
        "type": "custom",
        "query": ",".join(values),
        "hide": 0,
        "multi": True,
        "includeAll": True,
        "options": [],
        "current": {"text": "All", "value": "$__all"},
        "skipUrlSync": False,
    }


def textbox(name: str, label: str, description: str) -> Json:
    """Return a variable that people type into."""
    empty = {"selected": True, "text": "", "value": ""}
    return {
        "name": name,
        "label": label,
        "description": description,
        "type": "textbox",
        "query": "",
        "hide": 0,
        "options": [empty],
        "current": {"text": "", "value": ""},
        "skipUrlSync": False,
    }
