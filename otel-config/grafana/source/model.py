"""Grafana's dashboard model, as much of it as the four dashboards use, with their common look."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

STORE = {"type": "grafana-postgresql-datasource", "uid": "obs-hub"}
LOKI = {"type": "loki", "uid": "obs-hub-loki"}
TEMPO_UID = "obs-hub-tempo"

SCHEMA_VERSION = 41
WIDTH = 24

GREEN, YELLOW, ORANGE, RED, BLUE = "green", "yellow", "orange", "red", "blue"


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


# -- Looks -------------------------------------------------------------------------------------------------------------


def steps(*at: tuple[float | None, str]) -> Json:
    """Return thresholds: from each value on, a colour. The first value is None."""
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in at]}


def override(name: str, **properties: Any) -> Json:
    """Return what is special about a field. Underscores in the properties' names stand for dots."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key.replace("_", "."), "value": value} for key, value in properties.items()],
    }


def override_matching(pattern: str, **properties: Any) -> Json:
    """Return what is special about the fields whose names match a regular expression."""
    return {**override(pattern, **properties), "matcher": {"id": "byRegexp", "options": f"/{pattern}/"}}


def link(title: str, url: str) -> Json:
    """Return a data link."""
    return {"title": title, "url": url, "targetBlank": False}


HOST_LOGS = link(
    "Logs of ${__field.labels.host} around this time",
    "/d/obs-hub-systemd/systemd-monitoring?var-host=${__field.labels.host}&time=${__value.time}&time.window=600000",
)
"""From a point of a curve to the logs of the same host, five minutes before and after."""

OPEN_TRACE = link("Trace ${__value.raw}", "/d/obs-hub-trace/trace?var-trace=${__value.raw}&${__url_time_range}")
"""From a trace id to the spans of that trace."""


def _body(kind: str, title: str, targets: Sequence[Json], description: str) -> Json:
    assert description, title
    return {
        "type": kind,
        "title": title,
        "description": re.sub(r"\s+", " ", description).strip(),
        "datasource": targets[0]["datasource"],
        "targets": list(targets),
        "transparent": False,
    }


def timeseries(
    title: str,
    *targets: Json,
    description: str,
    unit: str = "short",
    name: str = "",
    stack: bool = False,
    bars: bool = False,
    low: float | None = 0,
    high: float | None = None,
    decimals: int | None = None,
    thresholds: Json | None = None,
    links: Sequence[Json] = (),
    overrides: Sequence[Json] = (),
    width: int = 12,
    height: int = 8,
) -> Panel:
    """Return curves over time, or bars. ``name`` is made of labels, such as ``${__field.labels.host}``."""
    defaults: Json = {
        "color": {"mode": "palette-classic"},
        "unit": unit,
        "custom": {
            "drawStyle": "bars" if bars else "line",
            "lineInterpolation": "linear",
            "lineWidth": 1,
            "fillOpacity": 70 if bars else 25 if stack else 8,
            "gradientMode": "none",
            "showPoints": "auto",
            "pointSize": 4,
            "spanNulls": False,
            "insertNulls": False,
            "axisPlacement": "auto",
            "axisLabel": "",
            "axisBorderShow": False,
            "scaleDistribution": {"type": "linear"},
            "stacking": {"mode": "normal" if stack else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if thresholds else "off"},
            "hideFrom": {"legend": False, "tooltip": False, "viz": False},
        },
        "thresholds": thresholds or steps((None, GREEN)),
        "links": list(links),
    }
    optional = {"min": low, "max": high, "decimals": decimals, "displayName": name or None}
    defaults |= {key: value for key, value in optional.items() if value is not None}
    body = _body("timeseries", title, targets, description) | {
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "options": {
            "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc", "hideZeros": False},
        },
    }
    return Panel(body, width, height)


def stat(
    title: str,
    *targets: Json,
    description: str,
    unit: str = "short",
    name: str = "",
    thresholds: Json | None = None,
    mappings: Sequence[Json] = (),
    decimals: int | None = None,
    empty: str = "–",
    color: str = "value",
    width: int = 4,
    height: int = 4,
) -> Panel:
    """Return a number, or one for each field or label, coloured by thresholds."""
    defaults: Json = {
        "color": {"mode": "thresholds"},
        "unit": unit,
        "noValue": empty,
        "thresholds": thresholds or steps((None, BLUE)),
        "mappings": list(mappings),
    }
    optional = {"decimals": decimals, "displayName": name or None}
    defaults |= {key: value for key, value in optional.items() if value is not None}
    body = _body("stat", title, targets, description) | {
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "orientation": "auto",
            "textMode": "auto",
            "colorMode": color,
            "graphMode": "none",
            "justifyMode": "auto",
            "wideLayout": True,
            "showPercentChange": False,
        },
    }
    return Panel(body, width, height)


def bargauge(
    title: str, *targets: Json, description: str, unit: str, high: float | None = 1, thresholds: Json | None = None,
    names: str = "", width: int = 12, height: int = 8,
) -> Panel:  # fmt: skip
    """Return a bar for each row of a table: a column with its name, and one with its value."""
    defaults: Json = {
        "color": {"mode": "thresholds"},
        "unit": unit,
        "min": 0,
        "thresholds": thresholds or steps((None, BLUE)),
    }
    if high is not None:
        defaults["max"] = high
    if names:
        defaults["displayName"] = names
    body = _body("bargauge", title, targets, description) | {
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": True},
            "orientation": "horizontal",
            "displayMode": "basic",
            "valueMode": "color",
            "namePlacement": "auto",
            "showUnfilled": True,
            "sizing": "auto",
            "minVizWidth": 8,
            "minVizHeight": 16,
            "maxVizHeight": 300,
            "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom", "calcs": []},
        },
    }
    return Panel(body, width, height)


def table(
    title: str, *targets: Json, description: str, overrides: Sequence[Json] = (), sort: str = "", width: int = 24,
    height: int = 8,
) -> Panel:  # fmt: skip
    """Return a table; what its columns look like is in the overrides. ``sort`` is a column, the largest first."""
    body = _body("table", title, targets, description) | {
        "fieldConfig": {
            "defaults": {
                "color": {"mode": "thresholds"},
                "thresholds": steps((None, GREEN)),
                "noValue": "–",
                "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False, "filterable": False},
            },
            "overrides": list(overrides),
        },
        "options": {
            "showHeader": True,
            "cellHeight": "sm",
            "sortBy": [{"displayName": sort, "desc": True}] if sort else [],
        },
    }
    return Panel(body, width, height)


def logs(
    title: str, *targets: Json, description: str, overrides: Sequence[Json] = (), width: int = 24, height: int = 14
) -> Panel:
    """Return log lines, the newest first."""
    body = _body("logs", title, targets, description) | {
        "fieldConfig": {"defaults": {}, "overrides": list(overrides)},
        "options": {
            "showTime": True,
            "showLabels": False,
            "showCommonLabels": False,
            "wrapLogMessage": True,
            "prettifyLogMessage": False,
            "enableLogDetails": True,
            "dedupStrategy": "none",
            "sortOrder": "Descending",
        },
    }
    return Panel(body, width, height)


def heatmap(title: str, *targets: Json, description: str, unit: str, width: int = 12, height: int = 8) -> Panel:
    """Return a heat map of ready-made buckets: a column for each, named by its upper bound, lowest first."""
    body = _body("heatmap", title, targets, description) | {
        "fieldConfig": {
            "defaults": {
                "custom": {
                    "scaleDistribution": {"type": "linear"},
                    "hideFrom": {"legend": False, "tooltip": False, "viz": False},
                }
            },
            "overrides": [],
        },
        "options": {
            "calculate": False,
            "rowsFrame": {"layout": "le", "value": "Commits"},
            "color": {
                "mode": "scheme",
                "scheme": "Blues",
                "fill": "dark-blue",
                "scale": "exponential",
                "exponent": 0.5,
                "steps": 32,
                "reverse": False,
            },
            "yAxis": {"axisPlacement": "left", "unit": unit, "reverse": False},
            "cellGap": 1,
            "cellValues": {"unit": "short"},
            "filterValues": {"le": 1e-9},
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "showValue": "never",
            "legend": {"show": True},
            "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": True},
        },
    }
    return Panel(body, width, height)
