"""What a published page says: a folder of YAML that people write, checked before anything is made of it.

It is also the allow-list: nothing of the store is read but what ``status.yaml`` and ``charts.yaml`` name, and it is
published under the names that they give.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from gateway.base.settings import Duration, Settings
from gateway.config import ConfigError, Place, Problem
from gateway.config.files import problem_of, read_file
from gateway.extensions.api.templates import FOLDER
from gateway.suggestions import suggestion

SHIPPED = FOLDER / "content"
"""What comes along: the hub's own page, and an example of one."""

_IMAGES = {".svg": b"<", ".png": b"\x89PNG", ".jpg": b"\xff\xd8", ".jpeg": b"\xff\xd8"}
_LARGEST_IMAGE = 5 << 20
_UNPRINTABLE = re.compile(r"[^\t\n\r -\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u202a-\u202e\u2066-\u2069]")
"""What XML has no room for, and what turns the text after it around."""


def _url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s\"'<>\\]+", text):
        raise ValueError("expected a URL such as https://example.com/page")
    return text.rstrip("/")


def _language(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", text):
        raise ValueError("expected a language such as en or pt-BR")
    return text


def _part_of_the_hub(text: str) -> str:
    if not re.fullmatch(r"hub|store|exporters/.+", text):
        raise ValueError("expected 'hub', 'store' or an exporter such as exporters/timescale")
    return text


def _link(text: str) -> str:
    if not re.fullmatch(r"(https?://|mailto:)[^\s\"'<>\\]+", text):
        raise ValueError("expected a URL such as https://example.com/page, or mailto:somebody@example.com")
    return text


def _file_name(text: str) -> str:
    if not re.fullmatch(r"[\w-][\w.-]*\.(svg|png|jpe?g)", text):
        raise ValueError("expected the name of an SVG, PNG or JPEG beside this file, such as architecture.svg")
    return text


def _day(value: object) -> date:
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        with contextlib.suppress(ValueError):
            return date.fromisoformat(value)
    raise ValueError("expected a day such as 2026-11-24")


def _one_line(text: str) -> str:
    if _UNPRINTABLE.search(text):
        raise ValueError("expected a text without control characters")
    if not text.strip():
        raise ValueError("expected a text, found none")
    return " ".join(text.split())


def _paragraphs(text: str) -> str:
    return "\n\n".join(_one_line(each) for each in re.split(r"\n\s*\n", text.strip()))


Text = Annotated[str, AfterValidator(_one_line)]
"""A line: however it is broken in the file, it is one."""
Prose = Annotated[str, AfterValidator(_paragraphs)]
"""Paragraphs, with an empty line between. What is in `backquotes` is set as code."""
Url = Annotated[Text, AfterValidator(_url)]
Link = Annotated[Text, AfterValidator(_link)]
FileName = Annotated[str, AfterValidator(_file_name)]
Day = Annotated[date, BeforeValidator(_day)]
Kind = Literal["milestone", "feature", "decision", "measurement", "security"]
UnitName = Literal["number", "percent", "bytes", "seconds"]
Quantile = Literal["p50", "p95", "p99"]

_Model = TypeVar("_Model", bound=Settings)


class Principle(Settings):
    """One thing that holds."""

    title: Text
    text: Prose


class Architecture(Settings):
    """A drawing, which lies beside the file."""

    image: FileName
    tall: FileName | None = None
    """The same for small screens, higher than wide."""
    description: Text
    """What it shows, for whoever does not see it."""


class Site(Settings):
    """``site.yaml``: what the page is about."""

    title: Text
    tagline: Text
    """The headline: a few words."""
    description: Text
    """Two sentences, below the headline, in search results, and where a link to the page is shown."""
    language: Annotated[str, AfterValidator(_language)] = "en"
    url: Url | None = None
    """Where the page will be. Without it there is no site map, and links to the page are shown without an image."""
    repository: Url | None = None
    """Where the sources are, such as ``https://github.com/somebody/something``."""
    author: Text | None = None
    links: dict[Text, Link] = Field(default_factory=dict)
    """What else the page links to, by name."""
    principles: list[Principle] = Field(default_factory=list)
    architecture: Architecture | None = None
    image: FileName | None = None
    """A PNG or JPEG, 1200 by 630, by which networks show a link to the page. Default: one is drawn."""


class Entry(Settings):
    """One thing that happened."""

    date: Day
    title: Text
    text: Prose
    kind: Kind = "feature"
    source: Text | None = None
    """A file of the repository that tells more."""
    links: dict[Text, Link] = Field(default_factory=dict)


class Timeline(Settings):
    """``timeline.yaml``: how the system came to be what it is, in any order."""

    entries: list[Entry] = Field(default_factory=list)


class Selection(Settings):
    """Series of a metric, by where they come from. What is selected by is not published."""

    host: str | None = None
    """The resource's ``host.name``."""
    service: str | None = None
    """The resource's ``service.name``."""
    where: dict[str, str] = Field(default_factory=dict)
    """Attributes that series must have, of their points or their resource."""

    @property
    def conditions(self) -> list[tuple[str, str]]:
        """All conditions, by the names that the reading layer has for them."""
        who = {"host_name": self.host, "service_name": self.service}
        return [*((key, value) for key, value in who.items() if value is not None), *self.where.items()]


class Records(Selection):
    """Points of a metric, from somewhere."""

    metric: str


class Component(Settings):
    """Something that is up or not."""

    name: Text
    """What the public calls it."""
    text: Text | None = None
    current: list[Annotated[str, AfterValidator(_part_of_the_hub)]] = Field(default_factory=list)
    """How it is now, by what the hub says: the worst of ``hub``, ``store`` and ``exporters/NAME``."""
    records: Records | None = None
    """Records that come as long as it is up."""
    at_most: float | None = None
    """The value above which it is not well although records come."""
    above: Literal["degraded", "down"] = "down"
    """What it is then."""


class Status(Settings):
    """``status.yaml``: which components are shown, and by which records they are known."""

    days: int = Field(default=90, ge=2, le=366)
    """How far back."""
    every: Duration = Field(default=timedelta(minutes=5), ge=timedelta(minutes=2), le=timedelta(hours=6))
    """How long an interval is: records come more often than that."""
    hub: Text | None = None
    """The name of the component that is the hub itself: while it is silent, nothing is known of the others."""
    components: list[Component] = Field(default_factory=list)


class Line(Selection):
    """A line of a chart. What several series say is added up; of gauges, it is the mean."""

    name: Text
    """What the public calls it."""
    quantile: Quantile = "p50"
    """Of a histogram or a summary."""


class Chart(Settings):
    """Lines over the last 2, 7 and 30 days."""

    title: Text
    text: Text | None = None
    metric: str
    rate: bool | None = None
    """The change per second instead of the value. Default: of counters."""
    unit: UnitName = "number"
    """How values are written: a share of 1 in ``percent``."""
    suffix: Text | None = None
    """What stands behind a number, such as ``records/s``."""
    lines: list[Line] = Field(min_length=1, max_length=6)


class Charts(Settings):
    """``charts.yaml``: which charts are shown."""

    charts: list[Chart] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Content:
    """All that people wrote for a page. ``files`` are the images that lie beside it, by name."""

    site: Site
    timeline: Timeline
    status: Status
    charts: Charts
    files: dict[str, bytes]

    @property
    def entries(self) -> list[Entry]:
        """The timeline, the newest first; of one day, the later in the file first."""
        return sorted(self.timeline.entries, key=lambda entry: entry.date)[::-1]


def load(folder: Path) -> Content:
    """Read the content in a folder: ``site.yaml``, and the other files where they are.

    Raises `ConfigError` with all that is wrong: file, line, what was found, what was expected.
    """
    problems: list[Problem] = []
    site = _read(folder / "site.yaml", Site, problems)
    timeline = _read(folder / "timeline.yaml", Timeline, problems, Timeline())
    status = _read(folder / "status.yaml", Status, problems, Status())
    charts = _read(folder / "charts.yaml", Charts, problems, Charts())
    files: dict[str, bytes] = {}
    if site is not None:
        for name, place in _named_files(site):
            try:
                files[name] = _image(folder / name)
            except ValueError as error:
                problems.append(problem_of(folder / "site.yaml", place, str(error)))
    if status is not None:
        problems += _contradictions(folder / "status.yaml", status)
    if problems or site is None or timeline is None or status is None or charts is None:
        raise ConfigError(problems)
    return Content(site, timeline, status, charts, files)


def _read(path: Path, model: type[_Model], problems: list[Problem], default: _Model | None = None) -> _Model | None:
    if default is not None and not path.exists():
        return default
    try:
        return read_file(path, model)
    except ConfigError as error:
        problems += error.problems
        return None


def _named_files(site: Site) -> Iterator[tuple[str, Place]]:
    """Yield the images that a site names, and where."""
    if site.architecture is not None:
        yield site.architecture.image, ("architecture", "image")
        if site.architecture.tall is not None:
            yield site.architecture.tall, ("architecture", "tall")
    if site.image is not None:
        yield site.image, ("image",)


def _image(path: Path) -> bytes:
    """Return an image. Raises `ValueError` with what is wrong with it."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_IMAGE + 1)
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror}; it has to lie beside this file") from error
    if len(content) > _LARGEST_IMAGE:
        raise ValueError(f"{path.name} is larger than {_LARGEST_IMAGE >> 20} MiB")
    if not content.lstrip().startswith(_IMAGES[path.suffix]):
        raise ValueError(f"{path.name} is no {path.suffix[1:].upper()}")
    return content


def _contradictions(path: Path, status: Status) -> Iterator[Problem]:
    names = [component.name for component in status.components]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield problem_of(path, ("components", index, "name"), f"expected each name once, found {name!r} again")
    if status.hub is not None and status.hub not in names:
        yield problem_of(
            path, ("hub",), f"expected the name of a component, found {status.hub!r}{suggestion(status.hub, names)}"
        )
