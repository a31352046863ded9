"""The scripts of others that the pages use are those that ``page/vendor.py`` names, with their licences."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "page/vendor.py"
FOLDER = SCRIPT.parent / "static/vendor"


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("page_vendor", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "page_vendor", module)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_what_is_there_is_what_the_script_names(vendor: Any) -> None:
    files = {Path(name).name for each in vendor.PACKAGES for name in each.files}
    licences = {f"{each.name}.LICENSE" for each in vendor.PACKAGES}
    assert {path.name for path in FOLDER.iterdir()} == files | licences | {"VERSIONS"}
    assert all((FOLDER / name).stat().st_size for name in files | licences)
    versions = [f"{each.name} {each.version}" for each in vendor.PACKAGES]
    assert (FOLDER / "VERSIONS").read_text("utf-8").splitlines() == versions


def test_every_version_is_exact_and_has_a_digest(vendor: Any) -> None:
    for each in vendor.PACKAGES:
        assert all(part.isdecimal() for part in each.version.split(".")), each
        assert each.integrity.startswith("sha512-"), each


def test_the_version_that_a_script_says_it_is(vendor: Any) -> None:
    versions = {each.name: each.version for each in vendor.PACKAGES}
    assert f'version:"{versions["htmx.org"]}"' in (FOLDER / "htmx.min.js").read_text("utf-8")
    assert f"(v{versions['uplot']})" in (FOLDER / "uPlot.iife.min.js").read_text("utf-8")[:200]
