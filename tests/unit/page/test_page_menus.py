"""Menus of names: all of them where that is possible, and any of them where it is not."""

from __future__ import annotations

import re

from gateway.extensions.api.templates import environment
from gateway.query import resources


def menu(count: int, chosen: str | None = None) -> str:
    template = environment().get_template("live/telemetry.html")
    options = [(f"host-{number}", f"host-{number}" == chosen) for number in range(count)]
    return str(template.make_module({"most_names": resources.MOST}).choose("host", "Host", "All hosts", options))  # type: ignore[attr-defined]


def test_a_menu_has_all_names() -> None:
    html = menu(resources.MOST - 1, "host-7")
    assert html.count("<option") == resources.MOST, "and one for all"
    assert '<option value="host-7" selected>' in html
    assert "<input" not in html


def test_of_more_names_than_a_menu_has_any_can_be_written() -> None:
    html = menu(resources.MOST, "host-7")
    assert "<select" not in html
    (field,) = re.findall(r"<input [^>]*>", html)
    assert 'name="host"' in field
    assert 'value="host-7"' in field
    assert html.count("<option") == resources.MOST, "which are proposed"
