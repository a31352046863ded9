"""Alloy's configurations: by Alloy itself where it is on PATH, and by what its components are documented to take."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from receivers.otlp.config import HttpConfig
from tests.support.alloy import COMPONENTS, FUNCTIONS, AlloySyntaxError, Block, parse
from tests.support.waiting import PATIENCE

FOLDER = Path(__file__).parents[3] / "otel-config/alloy"
CONFIGURATIONS = [("config.alloy",), ("kubernetes.alloy",), ("kubernetes.alloy", "kubernetes-journal.alloy")]
"""Files that Alloy reads as one configuration."""
configurations = pytest.mark.parametrize("names", CONFIGURATIONS, ids=" and ".join)
LITERALS = {"true", "false", "null"}


def components(names: Sequence[str]) -> list[Block]:
    return [block for name in names for block in parse((FOLDER / name).read_text("utf-8")).blocks]


def references(block: Block) -> set[str]:
    """The names in a component's values: of other components' exports, functions and literals."""
    return {token for token in block.values() if re.match(r"[A-Za-z_]", token)}


@configurations
def test_components_blocks_and_arguments_are_those_that_are_documented(names: Sequence[str]) -> None:
    for block in components(names):
        what = f"{block.name} {block.label!r}"
        component = COMPONENTS[block.name]
        own = set(block.arguments) | {each.name for each in block.blocks}
        assert set(component.required.split()) <= own, what
        for name in block.arguments:
            assert component.takes("", name), f"{what} takes no {name}"
        for where, inner in block.all_blocks():
            assert where in component.arguments, f"{what} has no block {where}"
            for name in inner.arguments:
                assert component.takes(where, name), f"{where} of {what} takes no {name}"


@configurations
def test_what_is_referred_to_is_there_and_nothing_is_left_over(names: Sequence[str]) -> None:
    every = components(names)
    exports = {
        f"{block.name}.{block.label}.{export}" for block in every for export in COMPONENTS[block.name].exports.split()
    }
    assert len({(block.name, block.label) for block in every}) == len(every)
    used = set().union(*(references(block) for block in every))
    assert used - FUNCTIONS - LITERALS <= exports

    # What has an input and gets nothing is either forgotten, or one of those kept for logs straight to Loki.
    inputs = {name for name in exports if name.endswith((".input", ".receiver"))}
    kept = {"otelcol.processor.filter.events.input", "otelcol.processor.filter.plain.input"}
    assert inputs - used - kept <= {f"loki.relabel.{block.label}.receiver" for block in every}


@configurations
def test_secrets_and_addresses_come_from_the_environment_and_are_explained(names: Sequence[str]) -> None:
    text = "".join((FOLDER / name).read_text("utf-8") for name in names)
    head = text[: text.index("logging {")]

    for name in re.findall(r'sys\.env\("(\w+)"\)', text):
        assert name in head, f"{name} is not explained"
    for block in components(names):
        if block.name == "otelcol.auth.bearer":
            assert "sys.env" in block.arguments["token"]


@configurations
def test_requests_of_applications_stay_as_they_are_and_own_ones_are_bounded_in_bytes(names: Sequence[str]) -> None:
    """Put together with others, a request is another one each time that its sender repeats it."""
    exporters = {each.label: each for each in components(names) if each.name == "otelcol.exporter.otlphttp"}
    for label, exporter in exporters.items():
        (queue,) = (each for each in exporter.blocks if each.name == "sending_queue")
        assert (queue.arguments["wait_for_result"], queue.arguments["block_on_overflow"]) == (["true"], ["true"])
        batches = [each.arguments for each in queue.blocks if each.name == "batch"]
        assert len(batches) == (label == "own"), label
        for batch in batches:
            assert batch["sizer"] == ['"bytes"']
            assert int(batch["max_size"][0]) <= HttpConfig().max_request_body_size // 2


@configurations
def test_what_applications_send_meets_no_batch_and_what_alloy_reads_meets_no_memory_limiter(
    names: Sequence[str],
) -> None:
    """A batch answers its sender early; and drops what a memory limiter behind it refuses."""
    every = {f"{block.name}.{block.label}": block for block in components(names)}

    def behind(name: str) -> set[str]:
        following = {token.rpartition(".")[0] for token in references(every[name])} & set(every) - {name}
        return following.union(*map(behind, following))

    assert not any("batch" in each for each in behind("otelcol.receiver.otlp.applications"))
    own = behind("otelcol.processor.batch.own")
    assert "otelcol.exporter.otlphttp.own" in own
    assert not any("memory_limiter" in each or each.endswith("otlphttp.applications") for each in own)


@configurations
def test_counters_that_are_scraped_become_sums(names: Sequence[str]) -> None:
    """A scrape hands on no types unless experimental features are switched on."""
    every = {f"{block.name}.{block.label}": block for block in components(names)}
    for name, block in every.items():
        if block.name == "otelcol.receiver.prometheus":
            following = {token.rpartition(".")[0] for token in references(block)} & set(every)
            while following and not any("processor.transform" in each for each in following):
                following = {t.rpartition(".")[0] for each in following for t in references(every[each])} & set(every)
            assert any("convert_gauge_to_sum" in value for each in following for value in every[each].values()), name


def test_the_parser_finds_mistakes() -> None:
    for text in ('a "b" {', "a = ", 'a "b" { c = [1, 2 }', "a { b = 1\n b = 2 }", "a { ; }", "a b"):
        with pytest.raises((AlloySyntaxError, IndexError)):
            parse(text)


@configurations
def test_alloy_accepts_it_as_formatted(names: Sequence[str], tmp_path: Path) -> None:
    if shutil.which("alloy") is None:
        pytest.skip("there is no alloy on PATH")
    for name in names:
        subprocess.run(["alloy", "fmt", "--test", shutil.copy(FOLDER / name, tmp_path)], check=True, timeout=PATIENCE)
    subprocess.run(["alloy", "validate", str(tmp_path)], check=True, timeout=PATIENCE)


def test_every_file_is_part_of_a_configuration() -> None:
    assert {name for names in CONFIGURATIONS for name in names} == {path.name for path in FOLDER.glob("*.alloy")}


def test_the_journal_of_a_node_is_read_as_that_of_a_host() -> None:
    """The same entries get the same names, wherever Alloy runs."""
    on_host, on_node = (
        {f"{block.name}.{block.label}": block for block in components([name])}
        for name in ("config.alloy", "kubernetes-journal.alloy")
    )
    assert on_node == {name: on_host[name] for name in on_node}
