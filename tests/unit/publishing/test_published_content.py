"""What people write for a page: checked as strictly as the configuration, with errors that they can act on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.config import ConfigError
from gateway.publishing.content import SHIPPED, load
from tests.support.publishing import SITE, content

ROOT = Path(__file__).parents[3]


def problems(folder: Path, **files: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        content(folder, {name.replace("_", "."): text for name, text in files.items()})
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"site_yaml": SITE + "tagine: x\n"}, "site.yaml:4: tagine: unknown setting 'tagine'; did you mean 'tagline'?"),
        ({"site_yaml": "title: Home\ntagline: x\n"}, "site.yaml:1: description: the setting 'description' is required"),
        ({"site_yaml": ""}, "site.yaml: empty; expected the sections title, tagline, "),
        (
            {"site_yaml": SITE + "url: example.com\n"},
            "site.yaml:4: url: expected a URL such as https://example.com/page",
        ),
        ({"site_yaml": SITE + "links: {Mine: 'javascript:alert(1)'}\n"}, "site.yaml:4: links.Mine: expected a URL"),
        ({"site_yaml": SITE + "image: ../x.png\n"}, "site.yaml:4: image: expected the name of an SVG, PNG or JPEG"),
        ({"site_yaml": SITE + "image: x.png\n"}, "site.yaml:4: image: x.png cannot be read: No such file or directory"),
        ({"site_yaml": "title: [\n"}, "site.yaml:2: not valid YAML"),
        (
            {"site_yaml": SITE.replace("It hums.", '"It \\v hums."')},
            "site.yaml:2: tagline: expected a text without control",
        ),
        (
            {"timeline_yaml": "entries:\n  - {date: 2026-13-01, title: x, text: y}\n"},
            "timeline.yaml:2: entries[0].date: expected a day such as 2026-11-24, found '2026-13-01'",
        ),
        (
            {"timeline_yaml": "entries:\n  - date: 2026-01-01\n    title: x\n    text: y\n    kind: party\n"},
            "timeline.yaml:5: entries[0].kind: expected 'milestone', 'feature', 'decision', 'measurement' or ",
        ),
        (
            {"status_yaml": "components:\n  - name: A\n    current: [elsewhere]\n"},
            "status.yaml:3: components[0].current[0]: expected 'hub', 'store' or an exporter such as "
            "exporters/timescale, found 'elsewhere'",
        ),
        ({"site_yaml": SITE + "language: English\n"}, "site.yaml:4: language: expected a language such as en or "),
        (
            {"status_yaml": "hub: Gatway\ncomponents:\n  - {name: Gateway}\n"},
            "status.yaml:1: hub: expected the name of a component, found 'Gatway'; did you mean 'Gateway'?",
        ),
        (
            {"status_yaml": "components:\n  - {name: A}\n  - {name: A}\n"},
            "status.yaml:3: components[1].name: expected each name once, found 'A' again",
        ),
        ({"charts_yaml": "charts:\n  - title: x\n    metric: y\n    lines: []\n"}, "charts.yaml:4: charts[0].lines: "),
        ({"charts_yaml": "charts: 5\n"}, "charts.yaml:1: charts: expected a list, found 5"),
        ({"status_yaml": "days: 9\nservice: x\n"}, "status.yaml:2: service: unknown setting 'service'"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value.partition(":")[2][:40],
)
def test_an_error_says_where_and_what_was_expected(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    (said,) = problems(tmp_path, **files)
    assert said.startswith(expected)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    said = problems(tmp_path, site_yaml="title: x\n", charts_yaml="charts: 5\n", status_yaml="days: 1\n")
    assert {text.partition(":")[0] for text in said} == {"site.yaml", "charts.yaml", "status.yaml"}


def test_an_image_is_what_its_name_says(tmp_path: Path) -> None:
    tmp_path.joinpath("logo.png").write_text("<script>")
    assert problems(tmp_path, site_yaml=SITE + "image: logo.png\n") == ["site.yaml:4: image: logo.png is no PNG"]


def test_a_site_alone_is_enough_and_a_dollar_is_one(tmp_path: Path) -> None:
    made = content(tmp_path, {"site.yaml": SITE.replace("It hums.", "${HOME} costs $5.")})
    assert made.site.tagline == "${HOME} costs $5."
    assert (made.entries, made.status.components, made.charts.charts) == ([], [], [])


def test_paragraphs_stay_and_lines_do_not(tmp_path: Path) -> None:
    text = "entries:\n  - date: 2026-01-01\n    title: >\n      a\n      b\n    text: |\n      a\n      b\n\n      c\n"
    (entry,) = content(tmp_path, {"timeline.yaml": text}).entries
    assert (entry.title, entry.text) == ("a b", "a b\n\nc")


def test_the_latest_is_first_also_within_a_day(tmp_path: Path) -> None:
    days = [("2026-01-02", "b"), ("2026-01-01", "a"), ("2026-01-02", "c")]
    text = "entries:\n" + "".join(f"  - {{date: {day}, title: {title}, text: x}}\n" for day, title in days)
    assert [entry.title for entry in content(tmp_path, {"timeline.yaml": text}).entries] == ["c", "b", "a"]


def test_what_comes_along_is_valid_and_points_at_files_that_there_are() -> None:
    shipped = load(SHIPPED)
    assert len(shipped.entries) > 10
    for entry in shipped.entries:
        assert entry.source is not None
        assert (ROOT / entry.source).is_file(), entry.title


def test_drawings_that_come_along_ask_for_nothing_and_run_nothing() -> None:
    for name, drawing in load(SHIPPED).files.items():
        text = drawing.decode()
        assert not re.search(r"(?i)<script|\son\w+=|href|@import|url\(|<image|<foreignObject", text), name
        assert "prefers-color-scheme: dark" in text.replace("scheme:dark", "scheme: dark")
