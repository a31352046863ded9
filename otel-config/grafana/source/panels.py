"""The panels that the dashboards are made of, and their common look."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from model import Json, Panel

GREEN, YELLOW, ORANGE, RED, BLUE = "green", "yellow", "orange", "red", "blue"


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
    thresholds: Json | None = None,
    decimals: int | None = None,
    rows: bool = False,
    width: int = 4,
    height: int = 4,
) -> Panel:
    """Return a number for each column, coloured by thresholds; with ``rows``, for each row, named by its text."""
    defaults: Json = {
        "color": {"mode": "thresholds"},
        "unit": unit,
        "noValue": "-",
        "thresholds": thresholds or steps((None, BLUE)),
    }
    if decimals is not None:
        defaults["decimals"] = decimals
    body = _body("stat", title, targets, description) | {
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": rows},
            "orientation": "auto",
            "textMode": "auto",
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "wideLayout": True,
            "showPercentChange": False,
        },
    }
    return Panel(body, width, height)


def bargauge(
    title: str,
    *targets: Json,
    description: str,
    unit: str,
    high: float | None = 1,
    thresholds: Json | None = None,
    names: str = "",
    width: int = 12,
    height: int = 8,
) -> Panel:
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
    title: str,
    *targets: Json,
    description: str,
    overrides: Sequence[Json] = (),
    sort: str = "",
    width: int = 24,
    height: int = 8,
) -> Panel:
    """Return a table; what its columns look like is in the overrides. ``sort`` is a column, the largest first."""
    body = _body("table", title, targets, description) | {
        "fieldConfig": {
            "defaults": {
                "color": {"mode": "thresholds"},
                "thresholds": steps((None, GREEN)),
                "noValue": "-",
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
