"""The page as files: whole, the same every time, asking for nothing, and silent about what is nobody's business."""

from __future__ import annotations

import itertools
import json
import math
import re
import struct
import xml.etree.ElementTree as ET
import zlib
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gateway.extensions.api.status import State
from gateway.publishing.content import SHIPPED, Chart, load
from gateway.publishing.drawing import draw, written
from gateway.publishing.readings import DrawnChart, DrawnLine, Readings, Span
from gateway.publishing.site import Build, files
from gateway.publishing.uptime import Day, History, Outage
from tests.support.publishing import PRIVATE, SITE, STATUS, content, hub_status

AT = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
CHARTS = "charts:\n  - title: Load\n    metric: load\n    lines: [{name: All}]\n"
TIMELINE = """\
entries:
  - {date: 2026-01-01, title: "Begun & <b>", text: "With `code <i>`.", source: docs/a.md, kind: milestone}
  - {date: 2026-02-01, title: Wörter, text: "]]> & more", links: {Elsewhere: "https://elsewhere.example/?a=1&b=2"}}
  - {date: 2026-02-01, title: Wörter, text: again}
"""


def readings(chart: Chart) -> Readings:
    start = AT - timedelta(days=2)
    span = Span(2, start, AT, [DrawnLine("All", [1.0, None, 3.0, 2.0])])
    outage = Outage(start, start + timedelta(hours=1), timedelta(hours=1))
    attic = History([Day(date(2026, 5, 3), 1, 0.75, 0, 0.25), Day(date(2026, 5, 4), 0.5, 0.5, 0, 0)], [outage])
    return Readings(
        [DrawnChart(chart, False, [span, Span(7, start, AT, [DrawnLine("All", [None])])])], {"Attic": attic}
    )


def whole(folder: Path, **changes: object) -> dict[str, bytes]:
    its = content(folder, {"status.yaml": STATUS, "charts.yaml": CHARTS, "timeline.yaml": TIMELINE})
    build = Build(its, AT, True, hub_status(), readings(its.charts.charts[0]), url="https://hub.example")
    return files(Build(**{**{name: getattr(build, name) for name in Build.__slots__}, **changes}))  # type: ignore[arg-type]


class Page(HTMLParser):
    """The elements of a page."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page.decode())
        self.close()
        assert self.open == [], "an element that is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "img", "input", "source", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} ends where another is open"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_same_build_is_the_same_bytes(tmp_path: Path) -> None:
    assert whole(tmp_path / "a") == whole(tmp_path / "b")


def test_every_file_is_there_and_no_other(tmp_path: Path) -> None:
    assert sorted(whole(tmp_path)) == [
        "evolution.html", "favicon.ico", "feed.xml", "icon.svg", "index.html", "llms.txt", "robots.txt", "sitemap.xml",
        "social.png", "status.html", "status.json", "style.css",
    ]  # fmt: skip
    assert list(whole(tmp_path))[-1] == "index.html", "what they need is written before"


@pytest.mark.parametrize("name", ["index.html", "status.html", "evolution.html"])
def test_a_page_asks_nobody_else_for_anything_and_runs_nothing(tmp_path: Path, name: str) -> None:
    made = whole(tmp_path)
    page = Page(made[name])
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"
    assert not page.all("script")
    assert not page.all("style")
    for tag, attributes in page.elements:
        assert not any(key.startswith("on") or key == "style" for key in attributes), (tag, attributes)
    loaded = [each["src"] for each in page.all("img")] + [
        each["href"] for each in page.all("link") if each["rel"] in ("icon", "stylesheet", "alternate")
    ]
    assert loaded
    assert all(each in made for each in loaded)
    assert "url(" not in made["style.css"].decode()
    assert "@import" not in made["style.css"].decode()


@pytest.mark.parametrize("name", ["index.html", "status.html", "evolution.html"])
def test_a_page_can_be_read_by_whoever_does_not_see_it(tmp_path: Path, name: str) -> None:
    page = Page(whole(tmp_path)[name])
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == len(page.all("main")) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), levels
    assert all("alt" in image for image in page.all("img"))
    assert all(drawing.get("aria-hidden") == "true" for drawing in page.all("svg")), "numbers stand beside it"
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes]
    assert set(named) | {each["for"] for each in page.all("label")} <= set(ids)


def test_links_between_the_pages_lead_somewhere(tmp_path: Path) -> None:
    made = whole(tmp_path)
    for name in ("index.html", "status.html", "evolution.html"):
        for link in Page(made[name]).all("a"):
            target, _, part = (link["href"] or "").partition("#")
            if not target.startswith("https://"):
                assert target in (*made, ""), target
                assert not part or f'id="{part}"' in made[target or name].decode()


def test_what_people_write_is_text(tmp_path: Path) -> None:
    page = whole(tmp_path, title="Home & <more>")["evolution.html"].decode()
    assert "Begun &amp; &lt;b&gt;" in page
    assert "With <code>code &lt;i&gt;</code>." in page
    assert "Home &amp; &lt;more&gt;" in page
    assert 'href="https://elsewhere.example/?a=1&amp;b=2"' in page


def test_the_feed_is_atom_and_its_entries_are_the_same_wherever_the_page_is(tmp_path: Path) -> None:
    atom = "{http://www.w3.org/2005/Atom}"
    here, there = (ET.fromstring(whole(tmp_path, url=url)["feed.xml"]) for url in ("https://a.example", None))
    ids = [entry.findtext(f"{atom}id") for entry in here.iter(f"{atom}entry")]
    assert ids == [entry.findtext(f"{atom}id") for entry in there.iter(f"{atom}entry")]
    assert len(set(ids)) == 3
    assert here.findtext(f"{atom}updated") == "2026-02-01T00:00:00Z"
    first = here.find(f"{atom}entry")
    assert first is not None
    link = first.find(f"{atom}link")
    assert link is not None
    assert link.get("href") == "https://a.example/evolution.html#2026-02-01-worter"
    assert "]]> & more" in [entry.findtext(f"{atom}content") for entry in here.iter(f"{atom}entry")]


def test_programs_find_the_pages(tmp_path: Path) -> None:
    made = whole(tmp_path)
    listed = [each.text for each in ET.fromstring(made["sitemap.xml"]).iter() if each.tag.endswith("loc")]
    assert listed == [f"https://hub.example/{name}" for name in ("", "status.html", "evolution.html")]
    assert "Sitemap: https://hub.example/sitemap.xml" in made["robots.txt"].decode()
    told = made["llms.txt"].decode()
    assert told.startswith("# Home\n\n> It hums. Machines at home.\n")
    assert "- [Status](https://hub.example/status.html)" in told
    assert "Begun & \\<b\\>" in told
    without = whole(tmp_path, url=None)
    assert "sitemap.xml" not in without
    assert "Sitemap" not in without["robots.txt"].decode()
    assert "- [Status](status.html)" in without["llms.txt"].decode()


def test_a_link_to_the_page_is_shown_with_an_image(tmp_path: Path) -> None:
    made = whole(tmp_path)
    about = {meta.get("property"): meta.get("content") for meta in Page(made["index.html"]).all("meta")}
    assert about["og:image"] == "https://hub.example/social.png"
    assert about["og:title"] == "Home: It hums."
    picture = made["social.png"]
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", picture[16:24]) == (1200, 630)
    begin = picture.index(b"IDAT") + 4
    (length,) = struct.unpack(">I", picture[begin - 8 : begin - 4])
    rows = zlib.decompress(picture[begin : begin + length])
    assert len(rows) == 630 * (1 + 1200 * 3)
    assert len({rows[n : n + 3] for n in range(1, 3600, 3)}) == 1, "its edge is empty"
    assert len(set(rows[315 * 3601 + 1 : 316 * 3601])) > 3, "and its middle is not"


def test_an_image_of_ones_own_is_taken_instead(tmp_path: Path) -> None:
    tmp_path.joinpath("mine.png").write_bytes(b"\x89PNG mine")
    made = files(Build(content(tmp_path, {"site.yaml": SITE + "image: mine.png\n"}), AT, url="https://hub.example"))
    assert made["mine.png"] == b"\x89PNG mine"
    assert "social.png" not in made
    assert b"https://hub.example/mine.png" in made["index.html"]


def test_without_hub_and_store_there_is_what_people_wrote_and_no_status(tmp_path: Path) -> None:
    made = files(Build(load(SHIPPED), AT))
    assert not {"status.html", "status.json"} & made.keys()
    page = made["index.html"].decode()
    assert "Telemetry that is kept." in page
    assert "does not answer" not in page
    assert not re.search(r"works|down\b", page.partition("<main")[2].partition("Principles")[0], re.IGNORECASE)
    assert "A receipt with every batch" in made["evolution.html"].decode()


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (State.OK, "Everything works"),
        (State.DEGRADED, "Working, with something amiss"),
        (State.DOWN, "Not taking telemetry"),
        (None, "The hub does not answer"),
    ],
)
def test_how_the_hub_is_is_said_first(tmp_path: Path, state: State | None, said: str) -> None:
    made = whole(tmp_path, status=None if state is None else hub_status(state))
    for name in ("index.html", "status.html"):
        assert said in made[name].decode()
    facts = json.loads(made["status.json"])
    assert facts["status"] == (state or State.DOWN)
    assert facts["at"] == "2026-05-04T12:30:00Z"
    if state is not None:
        assert facts["components"]["Store"] == facts["store"] == state


def test_of_the_hub_only_what_the_content_names_is_told(tmp_path: Path) -> None:
    made = whole(tmp_path)
    assert json.loads(made["status.json"])["exporters"] == {"timescale": "ok"}
    everything = b"".join(content for name, content in made.items() if not name.endswith((".png", ".ico"))).decode()
    for secret in (*PRIVATE, "nas-17", "secret.example"):
        assert secret not in everything


def test_days_and_outages_are_told_in_words_too(tmp_path: Path) -> None:
    page = whole(tmp_path)["status.html"].decode()
    assert "83.33 % of what is known" in page
    assert '<time datetime="2026-05-03">2026-05-03</time></th><td>75.00 %</td><td>-</td><td>6 h</td><td>-</td>' in page
    assert re.search(r"<strong>Attic</strong> was down for 1 h\s", page)


def test_a_chart_is_drawn_and_told_in_numbers(tmp_path: Path) -> None:
    page = whole(tmp_path)["index.html"].decode()
    assert 'd="M87.5 ' in page
    assert "h0L" not in page
    assert "<td>1</td><td>2</td><td>3</td><td>2</td>" in re.sub(r"\s", "", page)
    assert "7 days" not in page.partition("In figures")[2].partition("Evolution")[0], "of which nothing is known"


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("number", 0, "0"), ("number", 1234, "1.23 k"), ("number", 0.25, "0.25"), ("number", -3e6, "-3 M"),
        ("number", 1e-9, "1.0e-09"), ("number", 999.96, "1 k"), ("percent", 0.5, "50 %"), ("bytes", 1536, "1.5 KiB"),
        ("seconds", 0.0042, "4.2 ms"), ("seconds", 90, "1.5 min"), ("seconds", 0, "0 s"),
    ],
)  # fmt: skip
def test_values_are_written_in_a_few_letters(unit: str, value: float, text: str) -> None:
    chart = Chart.model_validate({"title": "x", "metric": "y", "unit": unit, "lines": [{"name": "z"}]})
    assert written(value, chart) == text


@pytest.mark.parametrize(
    "values", [[0.0], [5.0], [-1.0, 1.0], [1e290, -1e290], [1e-300], [None], [100.0, 100.1], [math.pi] * 3]
)
def test_whatever_the_numbers_are_there_is_a_drawing_of_them(values: list[float | None]) -> None:
    chart = Chart.model_validate({"title": "x", "metric": "y", "lines": [{"name": "z"}]})
    drawn = draw(chart, Span(2, AT - timedelta(days=2), AT, [DrawnLine("z", values)]), per_second=False)
    numbers = [float(each) for _, way in drawn.paths for each in re.findall(r"-?[\d.]+", way)]
    assert all(0 <= number <= 700 for number in numbers), drawn
