"""Every configuration in the documentation is one, as it stands.

A block with all that a file needs is taken for a whole file; any other one is what somebody writes into theirs, and is
put into the embedded default. What is not the hub's is marked before the block, for people do not see the mark:
``<!-- yaml: whose it is -->``. So is what belongs further in: ``<!-- yaml: below extensions.gitops -->``.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from gateway.components import type_of
from gateway.config import DEFAULT_YAML, SCHEMES, STARTER_YAML, Config, Scheme, load

ROOT = Path(__file__).parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
READING = ROOT / "otel-config/pipelines/reading.yaml"
FILES = [ROOT / "systemd/hub.yaml", READING]

_BLOCK = re.compile(
    r"(?:<!-- yaml: (?P<mark>[^\n]*) -->\n+)?^(?P<indent> *)```ya?ml\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL
)
_BELOW = "below "
_WHOLE = {"receivers", "exporters", "service"}


class Block(NamedTuple):
    """One block: where it is, its text, and where in a file it belongs."""

    where: str
    text: str
    below: tuple[str, ...] = ()


def _blocks() -> Iterator[Block]:
    for path in DOCUMENTS:
        document = path.read_text("utf-8")
        for found in _BLOCK.finditer(document):
            line = document.count("\n", 0, found.start("text")) + 1
            mark = found["mark"] or ""
            if mark and not mark.startswith(_BELOW):
                continue
            below = tuple(mark.removeprefix(_BELOW).split(".")) if mark else ()
            text = "".join(row.removeprefix(found["indent"]) for row in found["text"].splitlines(keepends=True))
            yield Block(f"{path.relative_to(ROOT)}:{line}", text, below)
    for path in FILES:
        yield Block(str(path.relative_to(ROOT)), path.read_text("utf-8"))
    yield Block("obs-hub config init", STARTER_YAML)


BLOCKS = list(_blocks())
WHOLE = [block for block in BLOCKS if not block.below and yaml.safe_load(block.text).keys() >= _WHOLE]
_VALUES = {
    "MONGO_URI": "mongodb://db.example",
    "DATABASE_URL": "postgresql://db.example",
    "STORE_DSN": "postgresql://a",
}
_ANY = Scheme(
    lambda name: _VALUES.get(name, "postgresql://b" if name.endswith("_DSN") else "any-value-of-32-characters-or-so")
)


def _loaded(text: str, folder: Path) -> Config:
    path = folder / "hub.yaml"
    path.write_text(text)
    return load(path, schemes=dict.fromkeys(SCHEMES, _ANY))


def _put_into(outer: Any, inner: Any) -> Any:
    """Write what a person would write into a file: keys beside others, anything else in the place of what was there."""
    if not isinstance(outer, dict) or not isinstance(inner, dict):
        return inner
    return {**outer, **{key: _put_into(outer.get(key), value) for key, value in inner.items()}}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_every_configuration_in_the_documentation_is_valid(block: Block, tmp_path: Path) -> None:
    if block in WHOLE:
        assert_known_to_workers(_loaded(block.text, tmp_path))
        return
    written = yaml.safe_load(block.text)
    for step in reversed(block.below):
        written = {step: written}
    base = READING.read_text("utf-8") if "reading" in block.below else DEFAULT_YAML
    config = _loaded(yaml.safe_dump(_put_into(yaml.safe_load(base), written)), tmp_path)
    assert config.has_front, "whoever copied this would have no page and no API any more"
    assert_known_to_workers(config)


def assert_known_to_workers(config: Config) -> None:
    """Processes beside the first are handed the configuration as it was read, conditions and patterns included."""
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize("block", WHOLE, ids=lambda block: block.where)
def test_a_whole_file_in_the_documentation_has_a_page_and_loses_no_signal(block: Block, tmp_path: Path) -> None:
    config = _loaded(block.text, tmp_path)
    assert config.has_front, "the page and the API would be missing"
    assert {name.partition("/")[0] for name in config.service.pipelines} == {"metrics", "logs", "traces"}
    assert config.warnings == ()


def test_the_whole_files_of_readme_and_starter_need_nothing_else(tmp_path: Path) -> None:
    """They are what people copy first: nothing in the environment, no server."""
    whole = {block.where.partition(":")[0]: block.text for block in WHOLE}
    for name in ("README.md", "obs-hub config init"):
        path = tmp_path / "hub.yaml"
        path.write_text(whole[name])
        config = load(path, schemes={})
        assert {type_of(each) for each in config.service.extensions} == {"tokens", "api"}


def test_the_starter_does_what_the_embedded_default_does(tmp_path: Path) -> None:
    started, default = _loaded(STARTER_YAML, tmp_path), load(None)
    assert (started.receivers, started.exporters) == (default.receivers, default.exporters)
    assert (started.extensions, started.service) == (default.extensions, default.service)


def test_what_the_starter_has_in_comments_is_valid_too(tmp_path: Path) -> None:
    """Each line that is switched off, switched on alone, or with those beside it that it needs."""
    lines = STARTER_YAML.splitlines()
    switched_off = [number for number, line in enumerate(lines) if re.match(r" +# [a-z_/]+: ?(?![a-z]+ )", line)]
    assert len(switched_off) >= 8
    for number in switched_off:
        text = lines.copy()
        text[number] = text[number].replace("# ", "", 1)
        if "anonymous_read" in text[number]:
            assert "insecure" in text[number + 1]
        _loaded("\n".join(text), tmp_path)


def test_there_are_documents_and_blocks_to_look_at() -> None:
    assert len(BLOCKS) > 15
    assert len(WHOLE) >= 4
