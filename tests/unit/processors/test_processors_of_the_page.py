"""What docs/processors.md shows can be used as it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.component import Signal
from gateway.components import COMPONENTS, processor, type_of
from gateway.config import load
from gateway.processors.common.conditions import FIELDS
from tests.support.processing import processor as made_of

PAGE = (Path(__file__).parents[3] / "docs" / "processors.md").read_text(encoding="utf-8")
BLOCKS: list[dict[str, Any]] = [yaml.safe_load(each) for each in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
PROCESSORS = [(name, settings) for block in BLOCKS for name, settings in block["processors"].items()]


def test_the_whole_file_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "hub.yaml"
    path.write_text(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0])
    config = load(path)
    assert not config.warnings
    assert set(config.service.pipelines) == {"metrics", "traces", "logs", "logs/audit"}


@pytest.mark.parametrize(("name", "settings"), PROCESSORS, ids=[name for name, _ in PROCESSORS])
def test_each_processor_can_be_made(name: str, settings: dict[str, Any] | None) -> None:
    component = processor(name)
    validated = component.settings.model_validate(settings or {})
    narrowed: Any = getattr(validated, "signals", lambda: frozenset(Signal))()
    for signal in component.signals & narrowed:
        assert made_of(name, settings, signal).name == name


def test_each_type_and_each_field_has_its_place() -> None:
    assert {type_of(name) for name, _ in PROCESSORS} == set(COMPONENTS.processors)
    for each in COMPONENTS.processors:
        assert f"\n## {each}\n" in PAGE
    for field in FIELDS:
        assert f"`{field}`" in PAGE, field
