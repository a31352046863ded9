"""What there is: hosts and services, those first that somebody should look at."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from gateway.extensions.api.page.charts import identifier, sparkline
from gateway.extensions.api.page.hosts import METRICS, host_charts
from gateway.extensions.api.page.shown import length_of
from gateway.extensions.api.page.view import Asked, Reader, View, host_link, link
from gateway.query import overview
from gateway.query.charts.buckets import Source, Values, Window, read, step_for
from gateway.query.charts.selection import Found, Series, find
from gateway.query.metrics.catalogue import Metric

Floats = npt.NDArray[np.float64]

_METRICS = (
    *("system.cpu.utilization", "system.memory.utilization", "system.filesystem.utilization"),
    *("system.cpu.time", "system.memory.usage", "system.filesystem.usage"),  # what the Collector sends by default
)
_NOW = 300.0
"""Seconds in which a value is the present one."""
_SILENT = 120.0
"""Seconds without anything after which a host is silent."""
_HALF_A_DAY = 43_200.0
_BUSY, _FULL, _VERY_FULL = 0.9, 0.85, 0.95
_ERRORS, _MANY_ERRORS = 0.01, 0.05
_LONGEST = timedelta(hours=1)
"""What services did is looked at for no longer: every span and log record of that time is."""
_INTERVALS = 60
MOST_ROWS = 200
"""Hosts that are shown, and services: those first that somebody should look at. The others are found by name."""
_MOST_NAMES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """A share of something: in words, how wide its bar is (of 100), and its state."""

    text: str
    width: float
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRow:
    """A host in the list. ``why`` says what is amiss; ``weight`` orders the list."""

    id: str
    name: str
    url: str
    state: str
    why: str
    weight: float
    spark: str
    cpu: Gauge | None
    memory: Gauge | None
    disk: Gauge | None
    is_silent: bool
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRow:
    """A service in the list."""

    id: str
    name: str
    state: str
    why: str
    spark: str
    rate: str
    errors: str
    log_errors: int
    seen: str
    logs_url: str
    traces_url: str
    hosts: str


def read_overview(reader: Reader, asked: Asked) -> Mapping[str, object]:
    """Return the lists; where there is one host alone, what it does as well, which is what its owner came for."""
    during = asked.range
    start = max(during.start, during.end - _LONGEST)
    found = overview.sources(reader.reading, start, during.end, _INTERVALS, asked.now)
    q = asked.text("q").lower()
    wanted = {name: last for name, last in found.hosts.items() if q in name.lower()}
    # Whose charts are shown as well: among their metrics are those of the list.
    alone = next(iter(wanted)) if len(found.hosts) == len(wanted) == 1 else None
    series = find(reader.reading, _METRICS if alone is None else METRICS, host=alone) if wanted else {}
    hosts = _hosts(reader, asked, wanted, series) if wanted else []
    hosts.sort(key=lambda row: (-row.weight, row.name))
    now = asked.now.timestamp()
    seconds = max((during.end - start).total_seconds(), 1.0)
    services = [each for name, each in found.services.items() if q in name.lower()]
    active = [(judged(each, seconds), each) for each in services if each.last is not None]
    active.sort(key=lambda each: (-each[0].weight, each[1].name))
    silent = sorted(each.name for each in services if each.last is None)
    return {
        "q": asked.text("q"),
        "is_empty": not found.hosts and not found.services,
        "is_cut": max(len(hosts), len(active)) > MOST_ROWS,
        "hosts": hosts[:MOST_ROWS],
        "host_count": len(hosts),
        "charts": None if alone is None else host_charts(reader, alone, during, series),
        "services": [_service(each, how, now, seconds, asked) for how, each in active[:MOST_ROWS]],
        "service_count": len(active),
        "silent_services": silent[:_MOST_NAMES],
        "silent_count": len(silent),
        "services_over": length_of(seconds),
        "endpoints": reader.hub.endpoints(),
    }


# -- hosts -------------------------------------------------------------------------------------------------------------


def _hosts(reader: Reader, asked: Asked, seen: Mapping[str, float | None], series: Found) -> list[HostRow]:
    during, now = asked.range, asked.now.timestamp()
    start, end = during.start.timestamp(), during.end.timestamp()
    step = step_for(end - start, _INTERVALS)
    # Of a day there are 24 hours and 1440 minutes, which make the same drawing of this size.
    window = Window(start, end, max(step, 3600) if end - start > _HALF_A_DAY else step)
    keys = _cpu(series)
    # A minute of a rollup has what six points would say, and is as good for a drawing of this size.
    _, values = read(reader.reading, keys, window, Source.MINUTES if step == 60 else None)
    lately = Window(end - _NOW, end, int(_NOW))
    present = [one.id for metric, several in series.items() if metric.name in _METRICS for one in several]
    _, latest = read(reader.reading, present, lately)
    by_host = _by_host(series)
    rows = []
    for name, last in seen.items():
        own = by_host.get(name, {})
        spark = sparkline(_busy(own, values, window), 0.0, 1.0)
        rows.append(_host(name, last, now, spark, own, latest, lately, asked))
    return rows


def _cpu(series: Found) -> list[int]:
    return [
        one.id
        for metric, several in series.items()
        if metric.name in ("system.cpu.utilization", "system.cpu.time")
        for one in several
        if _state(one, "cpu.mode") == "idle"
    ]


def _state(series: Series, name: str) -> str:
    """Return an attribute by the name of the conventions, or by that which the Collector gives it."""
    return series.label(name) or series.label("state")


def _by_host(series: Found) -> Mapping[str, Mapping[str, list[tuple[Metric, Series]]]]:
    found: defaultdict[str, defaultdict[str, list[tuple[Metric, Series]]]] = defaultdict(lambda: defaultdict(list))
    for metric, several in series.items():
        for one in several:
            if one.host is not None:
                found[one.host][metric.name].append((metric, one))
    return found


_Own = Mapping[str, list[tuple[Metric, Series]]]


def _busy(own: _Own, values: Mapping[int, Values], window: Window) -> Floats:
    """Return the share of all cores that was not idle, in each interval."""
    for name in ("system.cpu.utilization", "system.cpu.time"):
        idle = [
            values[one.id].means(window)
            if name == "system.cpu.utilization"
            else values[one.id].rates(window, resets=metric.is_monotonic, delta=not metric.is_monotonic)
            for metric, one in own.get(name, ())
            if _state(one, "cpu.mode") == "idle" and one.id in values
        ]
        if idle:
            return 1.0 - _mean(np.stack(idle))
    return np.full(window.count, np.nan)


def _mean(matrix: Floats) -> Floats:
    number = np.count_nonzero(~np.isnan(matrix), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(number > 0, np.nansum(matrix, axis=0) / number, np.nan)


def _host(
    name: str,
    last: float | None,
    now: float,
    spark: str,
    own: _Own,
    latest: Mapping[int, Values],
    window: Window,
    asked: Asked,
) -> HostRow:
    busy = _last(_busy(own, latest, window))
    memory = _share(own, latest, "system.memory", "system.memory.state")
    fullest, where = _fullest(own, latest)
    reasons: list[tuple[float, str, str]] = []
    is_silent = last is None or now - last > _SILENT
    if last is None or is_silent:
        silent = "a day" if last is None else length_of(now - last)
        reasons.append((3.0, "down", f"nothing for {'more than ' if last is None else ''}{silent}"))
    if fullest >= _FULL:
        state = "down" if fullest >= _VERY_FULL else "degraded"
        reasons.append((1.0 + fullest, state, f"{where} {fullest:.0%} full"))
    if memory >= _BUSY:
        reasons.append((1.0 + memory, "degraded", f"memory {memory:.0%} used"))
    if busy >= _BUSY:
        reasons.append((1.0 + busy, "degraded", f"CPU {busy:.0%} busy"))
    reasons.sort(reverse=True)
    shares = [share for share in (busy, memory, fullest) if math.isfinite(share)]
    return HostRow(
        id=identifier(f"host {name}"),
        name=name,
        url=host_link(name, **asked.range.parameters),
        state=reasons[0][1] if reasons else "ok",
        why=", ".join(text for _, _, text in reasons),
        weight=reasons[0][0] if reasons else max(shares, default=0.0),
        spark=spark,
        cpu=_gauge(busy, _BUSY, 1.1),
        memory=_gauge(memory, _BUSY, 1.1),
        disk=_gauge(fullest, _FULL, _VERY_FULL),
        is_silent=is_silent,
        seen=_ago(last, now),
    )


def _last(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else math.nan


def _newest(values: Mapping[int, Values], series: Series) -> float:
    found = values.get(series.id)
    return math.nan if found is None or not len(found.values) else float(found.values[-1])


def _share(own: _Own, values: Mapping[int, Values], of: str, attribute: str) -> float:
    """Return which part is used; NaN where that is not known."""
    shares = [_newest(values, one) for _, one in own.get(f"{of}.utilization", ()) if _state(one, attribute) == "used"]
    if shares:
        return sum(shares)
    usage = {one.id: _newest(values, one) for _, one in own.get(f"{of}.usage", ())}
    used = sum(usage[one.id] for _, one in own.get(f"{of}.usage", ()) if _state(one, attribute) == "used")
    total = sum(usage.values())
    return used / total if total and math.isfinite(total) else math.nan


def _fullest(own: _Own, values: Mapping[int, Values]) -> tuple[float, str]:
    """Return how full the fullest filesystem is, and where it is mounted."""
    found: list[tuple[float, str]] = []
    for _, one in own.get("system.filesystem.utilization", ()):
        if _state(one, "system.filesystem.state") in ("used", ""):
            found.append((_newest(values, one), _mount(one)))
    if not found:
        sizes: defaultdict[str, dict[str, float]] = defaultdict(dict)
        for _, one in own.get("system.filesystem.usage", ()):
            sizes[_mount(one)][_state(one, "system.filesystem.state")] = _newest(values, one)
        for mount, states in sizes.items():
            used, free = states.get("used", math.nan), states.get("free", math.nan)
            found.append((used / (used + free) if used + free > 0 else math.nan, mount))
    return max((each for each in found if math.isfinite(each[0])), default=(math.nan, ""))


def _mount(series: Series) -> str:
    return series.label("system.filesystem.mountpoint") or series.label("mountpoint") or "disk"


def _gauge(share: float, degraded: float, down: float) -> Gauge | None:
    if not math.isfinite(share):
        return None
    state = "down" if share >= down else "degraded" if share >= degraded else "ok"
    return Gauge(text=f"{share:.0%}", width=round(min(max(share, 0.0), 1.0) * 100, 1), state=state)


# -- services ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a service is: ``why`` says what is amiss, ``weight`` orders the list."""

    state: str
    why: str
    weight: float


def judged(service: overview.Service, seconds: float) -> Judgement:
    """Return how a service was in so many seconds."""
    share = service.error_share
    reasons: list[tuple[float, str, str]] = []
    if share >= _ERRORS:
        reasons.append((1.0 + share, "down" if share >= _MANY_ERRORS else "degraded", f"{share:.1%} fail"))
    if service.log_errors:
        weight = 0.5 + min(service.log_errors / 1e4, 0.4)
        lines = f"{service.log_errors:,} error{'' if service.log_errors == 1 else 's'} logged"
        reasons.append((weight, "degraded", lines))
    reasons.sort(reverse=True)
    return Judgement(
        state=reasons[0][1] if reasons else "ok",
        why=", ".join(text for _, _, text in reasons),
        weight=reasons[0][0] if reasons else min(service.requests / seconds / 1e6, 0.4),
    )


def _service(service: overview.Service, how: Judgement, now: float, seconds: float, asked: Asked) -> ServiceRow:
    activity: Sequence[int] = service.spans if any(service.spans) else service.logs
    return ServiceRow(
        id=identifier(f"service {service.name}"),
        name=service.name,
        state=how.state,
        why=how.why,
        spark=sparkline(np.array(activity, np.float64)) if any(activity) else "",
        rate=_rate(service.requests / seconds) if service.requests else "",
        errors=f"{service.error_share:.1%}" if service.requests else "",
        log_errors=service.log_errors,
        seen=_ago(service.last, now),
        logs_url=link("/logs", service=service.name, **asked.range.parameters),
        traces_url=link("/traces", service=service.name, **asked.range.parameters) if any(service.spans) else "",
        hosts=", ".join(sorted(service.hosts)[:3]) + ("…" if len(service.hosts) > 3 else ""),
    )


def _rate(a_second: float) -> str:
    if a_second >= 1:
        return f"{a_second:,.3g}/s"
    return f"{a_second * 60:.3g}/min"


def _ago(last: float | None, now: float) -> str:
    if last is None:
        return "over a day ago"
    seconds = round(now - last)
    if seconds < 60:
        return "now"
    return f"{length_of(seconds)} ago"


VIEW = View(path="/", name="Overview", template="live/overview.html", read=read_overview, every=10)
