"""Grafana as far as queries are concerned: variables and macros are filled in as its documentation says.

The macros are those of the PostgreSQL data source; variables with several values become a list of quoted ones in SQL,
and a regular expression in LogQL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

Json = dict[str, Any]

GRAFANA = Path(__file__).parents[2] / "otel-config" / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))

_MACRO = re.compile(r"\$(__\w+)\(([^)]*)\)")
_VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\$(\w+)")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


@dataclass(frozen=True)
class TimeRange:
    """What a viewer chose, and in which time zone the dashboard is shown."""

    start: datetime
    end: datetime
    zone: str = "Europe/Berlin"

    @classmethod
    def last(cls, length: timedelta) -> TimeRange:
        end = datetime.now(UTC)
        return cls(end - length, end)

    def interval(self, panel: Json | None = None) -> timedelta:
        """The interval that Grafana makes of it: for as many points as a panel shows, and no less than it asks for."""
        points = (panel or {}).get("maxDataPoints", 1_000)
        least = _seconds((panel or {}).get("interval", "15s"))
        exact = (self.end - self.start).total_seconds() / points
        return timedelta(seconds=max(least, _rounded(exact)))


_ROUNDED = (
    (1.5, 1), (3.5, 2), (7.5, 5), (12.5, 10), (17.5, 15), (25, 20), (45, 30), (90, 60), (210, 120), (450, 300),
    (750, 600), (1_050, 900), (1_500, 1_200), (2_700, 1_800), (5_400, 3_600), (9_000, 7_200), (16_200, 10_800),
    (32_400, 21_600), (86_400, 43_200), (604_800, 86_400),
)  # fmt: skip
"""Below how many seconds an interval becomes how many."""


def _rounded(seconds: float) -> float:
    return next((rounded for limit, rounded in _ROUNDED if seconds < limit), 604_800)


@dataclass(frozen=True)
class Values:
    """The values of a variable. ``several`` tells that the viewer may choose more than one."""

    values: Sequence[str]
    several: bool

    def in_sql(self) -> str:
        escaped = [value.replace("'", "''") for value in self.values]
        return ",".join(f"'{value}'" for value in escaped) if self.several else "".join(escaped[:1])

    def in_logql(self) -> str:
        if not self.several:
            return "".join(self.values[:1])
        escaped = [re.sub(r"([\\^$*+?.()|{}\[\]])", r"\\\\\1", value) for value in self.values]
        return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


@dataclass(frozen=True)
class Query:
    """A query of a panel, variable or alert rule."""

    where: str
    text: str
    shape: str
    panel: Json


def load(path: Path) -> Json:
    dashboard: Json = json.loads(path.read_text("utf-8"))
    return dashboard


def panels(dashboard: Json) -> Iterator[Json]:
    """Yield every panel, those of collapsed rows too."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel


def queries(dashboard: Json, language: str) -> Iterator[Query]:
    """Yield the queries of all panels in a language, rawSql or expr."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            if language in target:
                shape = target.get("format") or target.get("queryType")
                yield Query(f"{dashboard['title']} / {panel['title']}", target[language], shape, panel)


def interpolate(text: str, variables: Mapping[str, Values], *, sql: bool = True) -> str:
    """Fill in variables. A dollar sign that begins none stays."""

    def value(match: re.Match[str]) -> str:
        found = variables.get(match[1] or match[3])
        if found is None:
            return match[0]
        match match[2]:
            case None:
                return found.in_sql() if sql else found.in_logql()
            case "raw":
                return "".join(found.values[:1])
        raise AssertionError(f"this expander does not know the format {match[2]}")

    return _VARIABLE.sub(value, text)


def expand_sql(text: str, chosen: TimeRange, *, panel: Json | None = None, timescaledb: bool = False) -> str:
    """Expand the macros of the PostgreSQL data source. Raises `AssertionError` for one that it does not have."""
    interval = chosen.interval(panel)
    text = text.replace("$__timezone", chosen.zone)
    text = text.replace("$__interval_ms", str(round(interval / timedelta(milliseconds=1))))
    text = text.replace("$__interval", f"{round(interval.total_seconds())}s")

    def macro(match: re.Match[str]) -> str:
        arguments = [argument.strip() for argument in match[2].split(",")]
        start, end = (f"'{at.strftime('%Y-%m-%dT%H:%M:%S.%fZ')}'" for at in (chosen.start, chosen.end))
        match match[1]:
            case "__timeFilter":
                return f"{arguments[0]} BETWEEN {start} AND {end}"
            case "__timeFrom":
                return start
            case "__timeTo":
                return end
            case "__timeGroup":
                assert match.string[match.end() : match.end() + 1] != ",", "an old form, which adds an alias of its own"
                seconds = _seconds(arguments[1].strip("'"))
                if timescaledb:
                    return f"time_bucket('{seconds:.3f}s',{arguments[0]})"
                return f"floor(extract(epoch from {arguments[0]})/{seconds:g})*{seconds:g}"
        raise AssertionError(f"the PostgreSQL data source has no macro {match[1]}, or this expander does not know it")

    expanded = _MACRO.sub(macro, text)
    assert "$__" not in expanded, f"a macro that was not expanded: {expanded}"
    return expanded


def expand_logql(text: str, chosen: TimeRange, panel: Json) -> str:
    """Expand what the Loki data source has in the place of a range."""
    return text.replace("$__auto", f"{round(chosen.interval(panel).total_seconds())}s")


def _seconds(interval: str) -> float:
    match = re.fullmatch(r"(\d+)(ms|s|m|h|d)", interval)
    assert match, interval
    return int(match[1]) * _UNITS[match[2]]
