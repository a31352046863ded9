"""The panels that the dashboards are made of, and their common look."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from model import Json, Panel, sql

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
    "/d/obs-hub-systemd/systemd-monitoring?var-host=${__field.labels.host:percentencode}&time=${__value.time}&time.window=600000",
)
"""From a point of a curve to the logs of the same host, five minutes before and after."""

OPEN_TRACE = link("Trace ${__value.raw}", "/d/obs-hub-trace/trace?var-trace=${__value.raw}&${__url_time_range}")
"""From a trace id to the spans of that trace."""

NOT_KNOWN = {
    "type": "special",
    "options": {"match": "null+nan", "result": {"text": "no data", "color": "text", "index": 0}},
}
"""What is not known is neither good nor bad: without this, Grafana shows it in the colour of the lowest threshold."""

WRAPPED = {
    "custom_cellOptions": {"type": "auto", "wrapText": True},
    "custom_wrapText": True,  # where Grafana 12.2 and newer have it
    "custom_inspect": True,
}
"""Of a column with long text: over several lines, and all of it in a drawer."""

BARS = 50
"""How many bars a panel of a third of a page has room for, so that each can be told from the next."""

READABLE_RATES = "30s"
"""Two collections of what comes every 15 seconds, so that each interval has a reading of every series."""


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
    if bars:
        body["maxDataPoints"] = BARS
    else:
        body["interval"] = READABLE_RATES
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
        "noValue": "no data",
        "thresholds": thresholds or steps((None, BLUE)),
    }
    defaults["mappings"] = [NOT_KNOWN]
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


def count_of_logs(title: str, condition: str, description: str, color: str, *, of: str, name: str, width: int) -> Panel:
    """Return a number of log records of some: coloured from one on, blue always; none where there are none of those."""
    return stat(
        title,
        sql(f"SELECT count(*) FILTER (WHERE {condition}) AS {name} FROM logs WHERE {of}\nHAVING count(*) > 0", "table"),
        description=description,
        thresholds=steps((None, GREEN), (1, color)) if color != BLUE else None,
        width=width,
    )


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
    widths: Mapping[str, int],
    overrides: Sequence[Json] = (),
    sort: str = "",
    width: int = 24,
    height: int = 8,
) -> Panel:
    """Return a table; what its columns look like is in the overrides. ``sort`` is a column, the largest first.

    ``widths`` are those of its columns in pixels; the column that is not among them gets the room that is left.
    """
    body = _body("table", title, targets, description) | {
        "fieldConfig": {
            "defaults": {
                "color": {"mode": "thresholds"},
                "thresholds": steps((None, GREEN)),
                "noValue": "-",
                "custom": {
                    "align": "auto",
                    "cellOptions": {"type": "auto"},
                    "inspect": False,
                    "filterable": False,
                    "minWidth": 60,
                },
            },
            "overrides": [*(override(column, custom_width=pixels) for column, pixels in widths.items()), *overrides],
        },
        "options": {
            "showHeader": True,
            "cellHeight": "sm",
            "sortBy": [{"displayName": sort, "desc": True}] if sort else [],
        },
    }
    return Panel(body, width, height)


LEVEL = """CASE WHEN severity_number >= 21 THEN 'fatal' WHEN severity_number >= 17 THEN 'error'
    WHEN severity_number >= 13 THEN 'warning' WHEN severity_number >= 9 THEN 'info'
    WHEN severity_number >= 5 THEN 'debug' WHEN severity_number >= 1 THEN 'trace' ELSE 'unknown' END"""
"""The SQL of a log record's level."""

LEVELS = {"fatal": "dark-red", "critical": "dark-red", "error": RED, "warning": ORANGE, "warn": ORANGE, "info": BLUE,
          "debug": "gray", "trace": "gray", "unknown": "light-gray"}  # fmt: skip
"""The colours of levels, as the store's queries and Loki name them."""

LEVEL_CURVES = tuple(override(level, color={"mode": "fixed", "fixedColor": color}) for level, color in LEVELS.items())


def log_table(
    title: str, target: Json, *, description: str, of: str, of_width: int = 200, links: Sequence[Json] = (),
    width: int = 24, height: int = 14,
) -> Panel:  # fmt: skip
    """Return log lines as a table with the columns Time, Level, Host, ``of``, Message and Trace.

    A panel of the type logs would look better, but draws no data links on what comes from SQL: no line would lead to
    its trace.
    """
    return table(
        title,
        target,
        description=description,
        widths={"Time": 180, "Level": 75, "Host": 120, of: of_width, "Trace": 130},
        overrides=(
            override("Time", unit="time:YYYY-MM-DD HH:mm:ss.SSS"),
            override(
                "Level",
                custom_cellOptions={"type": "color-text"},
                mappings=[
                    {
                        "type": "value",
                        "options": {
                            level: {"color": color, "index": n} for n, (level, color) in enumerate(LEVELS.items())
                        },
                    }
                ],
            ),
            override(of, links=list(links)),
            override("Message", **WRAPPED),
            override("Trace", links=[OPEN_TRACE], noValue=" "),
        ),
        width=width,
        height=height,
    )


def traces(title: str, target: Json, *, description: str, width: int = 24, height: int = 20) -> Panel:
    """Return the spans of one trace as a waterfall. Grafana's names of their columns are in `trace_view`."""
    body = _body("traces", title, [target], description) | {
        "fieldConfig": {"defaults": {}, "overrides": []},
        "options": {},
        "transformations": [
            {
                "id": "convertFieldType",
                "options": {
                    "fields": {},
                    "conversions": [
                        {"targetField": column, "destinationType": "other"}
                        for column in ("tags", "serviceTags", "logs", "references")
                    ],
                },
            }
        ],
    }
    return Panel(body, width, height)


def logs(title: str, *targets: Json, description: str, width: int = 24, height: int = 14) -> Panel:
    """Return log lines of Loki, the newest first."""
    body = _body("logs", title, targets, description) | {
        "fieldConfig": {"defaults": {}, "overrides": []},
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
