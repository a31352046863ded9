"""The configurations of Alloy in docs/scaling.md: as documented, whole, and accepted by Alloy where it is there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.alloy import COMPONENTS, parse
from tests.support.documents import ROOT, blocks
from tests.support.waiting import PATIENCE

PAGE = ROOT / "docs/scaling.md"
TEXTS = [text for _, _, text in blocks(PAGE, "alloy")]
texts = pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))


def test_there_are_some() -> None:
    assert len(TEXTS) == 3


@texts
def test_components_blocks_and_arguments_are_those_that_are_documented(text: str) -> None:
    exports, used = set(), set()
    for block in parse(text).blocks:
        component = COMPONENTS[block.name]
        own = set(block.arguments) | {each.name for each in block.blocks}
        assert set(component.required.split()) <= own, block.name
        assert not [name for name in block.arguments if not component.takes("", name)], block.name
        for where, inner in block.all_blocks():
            assert where in component.arguments, f"{block.name} has no block {where}"
            assert not [name for name in inner.arguments if not component.takes(where, name)], f"{block.name} {where}"
        exports |= {f"{block.name}.{block.label}.{export}" for export in component.exports.split()}
        used |= {token for token in block.values() if token.endswith(".input")}
    assert used == exports


@texts
def test_a_sender_has_its_answer_from_who_has_the_data(text: str) -> None:
    exporters = [block for block in parse(text).blocks if ".exporter." in block.name]
    assert exporters
    for exporter in exporters:
        (queue,) = [each for each in exporter.blocks if each.name == "sending_queue"]
        assert queue.arguments["wait_for_result"] == ["true"]
        assert not queue.blocks, "a batch is another request each time it is sent again"
    assert "processor.batch" not in text


@texts
def test_alloy_accepts_it_as_formatted(text: str, tmp_path: Path) -> None:
    if shutil.which("alloy") is None:
        pytest.skip("there is no alloy on PATH")
    file = tmp_path / "config.alloy"
    file.write_text(f"{text}\n", "utf-8")
    subprocess.run(["alloy", "fmt", "--test", str(file)], check=True, timeout=PATIENCE)
    done = subprocess.run(
        ["alloy", "validate", str(file)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if "cannot find the definition of component name" in done.stderr and "kafka" in text:
        pytest.skip("this alloy is built without Kafka's components")
    assert done.returncode == 0, done.stderr
