"""The page as files: all that is known, put into templates, and each file replaced as a whole."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gateway.extensions.api.status import HubStatus, State
from gateway.extensions.api.templates import FOLDER
from gateway.files.durability import replace_file
from gateway.publishing import documents
from gateway.publishing.content import Chart, Component, Content, Entry
from gateway.publishing.drawing import DaysDrawing, Drawing, draw, draw_days, duration, percent
from gateway.publishing.hub import state_of
from gateway.publishing.image import social_image
from gateway.publishing.readings import DrawnChart, Readings
from gateway.publishing.uptime import DAY, History

_ASSETS = {"style.css": "public/style.css", "icon.svg": "icon.svg", "favicon.ico": "favicon.ico"}
_SAID = {
    State.OK: "Everything works",
    State.DEGRADED: "Working, with something amiss",
    State.DOWN: "Not taking telemetry",
}


@dataclass(frozen=True, slots=True)
class Build:
    """What a page is made of.

    ``asked`` tells whether the hub was asked for its status; it is ``None`` when the hub did not answer. ``readings``
    are None where no store was read.
    """

    content: Content
    at: datetime
    asked: bool = False
    status: HubStatus | None = None
    readings: Readings | None = None
    title: str | None = None
    url: str | None = None
    repository: str | None = None


@dataclass(frozen=True, slots=True)
class _ShownComponent:
    component: Component
    now: State | None
    history: History | None

    @property
    def drawing(self) -> DaysDrawing:
        return draw_days(self.history.days if self.history else [])

    @property
    def available(self) -> str:
        return percent(self.history.available if self.history else None)


@dataclass(frozen=True, slots=True)
class _ShownChart:
    chart: Chart
    drawings: list[Drawing]


@dataclass(frozen=True, slots=True)
class _ShownEntry:
    entry: Entry
    anchor: str
    id: str
    links: dict[str, str]


def write(folder: Path, build: Build) -> None:
    """Write the page. Each file is replaced as a whole, ``index.html`` at last; what is in the way of none stays.

    Raises `OSError`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files(build).items():
        _replace(folder / name, content)


def files(build: Build) -> dict[str, bytes]:
    """Return the files of the page by name: the same bytes for the same build."""
    site = build.content.site
    title = build.title or site.title
    url = build.url or site.url
    repository = build.repository or site.repository
    at = build.at.astimezone(UTC)
    entries = _entries(build.content, title, repository)
    components = _components(build)
    pages = {
        "Overview": "index.html",
        **({"Status": "status.html"} if components else {}),
        **({"Evolution": "evolution.html"} if entries else {}),
    }
    image = site.image or "social.png"
    histories = [(shown.component.name, shown.history) for shown in components if shown.history is not None]
    outages = sorted(
        ((name, outage) for name, one in histories for outage in one.outages),
        key=lambda each: each[1].start,
        reverse=True,
    )
    values: dict[str, Any] = {
        "site": site,
        "status": build.content.status,
        "title": title,
        "url": url,
        "at": at,
        "pages": pages,
        "image": image,
        "links": {**({"Source code": repository} if repository else {}), **site.links},
        "entries": entries,
        "feed_id": documents.identity(title),
        "components": components,
        "charts": [] if build.readings is None else list(map(_chart, build.readings.charts)),
        "known": bool(histories),
        "outages": outages,
        "said": _said(build),
        "overall": build.status.status if build.status else State.DOWN,
    }
    made: dict[str, bytes] = {name: (FOLDER / "static" / place).read_bytes() for name, place in _ASSETS.items()}
    made |= build.content.files
    if site.image is None:
        made[image] = social_image()
    texts = {"robots.txt": documents.robots(url)}
    texts["llms.txt"] = documents.llms(site, title, url, pages, [each.entry for each in entries])
    if url:
        texts["sitemap.xml"] = _rendered("sitemap.xml", values)
    if entries:
        texts["feed.xml"] = _rendered("feed.xml", values)
    for file in reversed(pages.values()):
        texts[file] = _rendered(file, {**values, "page": file})
    if build.asked:
        made["status.json"] = msgspec.json.format(msgspec.json.encode(_facts(build, components))) + b"\n"
    return made | {name: text.encode() for name, text in texts.items()}


def _said(build: Build) -> str | None:
    if not build.asked:
        return None
    return "The hub does not answer" if build.status is None else _SAID[build.status.status]


def _components(build: Build) -> list[_ShownComponent]:
    """Return the components of which anything is known."""
    histories = {} if build.readings is None else build.readings.histories
    shown = [
        _ShownComponent(
            component, state_of(component, build.status) if build.asked else None, histories.get(component.name)
        )
        for component in build.content.status.components
    ]
    return [each for each in shown if each.now is not None or each.history is not None]


def _chart(drawn: DrawnChart) -> _ShownChart:
    spans = [span for span in drawn.spans if span.known]
    return _ShownChart(drawn.chart, [draw(drawn.chart, span, per_second=drawn.per_second) for span in spans])


def _entries(content: Content, title: str, repository: str | None) -> list[_ShownEntry]:
    entries = content.entries
    shown = []
    for entry, anchor in zip(entries, documents.anchors(entries), strict=True):
        more = {entry.source: f"{repository}/blob/HEAD/{entry.source}"} if repository and entry.source else {}
        shown.append(_ShownEntry(entry, anchor, documents.identity(title, anchor), {**more, **entry.links}))
    return shown


def _facts(build: Build, components: list[_ShownComponent]) -> Mapping[str, Any]:
    """Return ``status.json``: what the content allows, by the names that the configuration has for exporters."""
    status = build.status
    at = build.at.astimezone(UTC)
    if status is None:
        return {"at": at, "status": State.DOWN, "exporters": {}}
    allowed = {part for component in build.content.status.components for part in component.current}
    exporters = {name: one.state for name, one in status.exporters.items() if f"exporters/{name}" in allowed}
    store = {"store": status.store.state} if "store" in allowed else {}
    now = {shown.component.name: shown.now for shown in components if shown.now is not None}
    return {"at": at, "status": status.status, **store, "exporters": exporters, "components": now}


# -- templates ---------------------------------------------------------------------------------------------------------


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "code": _code,
        "duration": duration,
        "of_day": lambda share: duration(share * DAY) if share else "-",
        "share": percent,
    }
    return environment


def _rendered(name: str, values: Mapping[str, Any]) -> str:
    return _environment().get_template(f"public/{name}").render(values).rstrip() + "\n"


def _code(text: str) -> Markup:
    """Return a text in which what is in backquotes is set as code."""
    parts = re.split(r"`([^`]+)`", text)
    return Markup("").join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))


def _replace(path: Path, content: bytes) -> None:
    """Replace a file, which keeps its mode; a new one is for whoever the web server runs as to read."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        mode = 0o644
    else:
        mode = stat.S_IMODE(found.st_mode) if stat.S_ISREG(found.st_mode) else 0o644
    replace_file(path, content, mode=mode, lasting=False)
