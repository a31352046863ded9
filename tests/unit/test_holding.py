"""By what a hub knows its own runs again."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.runs.hub_id import holder


@pytest.mark.parametrize("left", [None, ""], ids=["new", "killed before it wrote"])
def test_it_is_the_same_through_all_restarts(tmp_path: Path, left: str | None) -> None:
    if left is not None:
        (tmp_path / "hub.id").write_text(left)
    first = holder(tmp_path)
    assert first
    assert holder(tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == ["hub.id"]
