"""Names, units and kinds are those of the installed semantic conventions, and the documentation has them all."""

import ast
import importlib.util
import re
from itertools import pairwise
from pathlib import Path

import pytest
from opentelemetry.semconv.schemas import Schemas

from receivers.hostmetrics import conventions
from receivers.hostmetrics.conventions import Attribute, Instrument

DOCUMENTATION = Path(__file__).parents[3] / "docs" / "host-metrics.md"
INSTRUMENTS = [each for each in vars(conventions).values() if isinstance(each, Instrument)]
ATTRIBUTES = [value for name, value in vars(Attribute).items() if name.isupper()]
# What the conventions lack, and the Collector has.
FROM_COLLECTOR = {f"system.cpu.load_average.{minutes}m": ("gauge", "{thread}") for minutes in (1, 5, 15)}
FROM_COLLECTOR |= {
    "system.disk.pending_operations": ("updowncounter", "{operations}"),
    "system.filesystem.inodes.usage": ("updowncounter", "{inodes}"),
    "container.restarts": ("counter", "{restarts}"),
}
# What both lack.
OUR_OWN = {"container.health.status": ("updowncounter", "{container}")}
OUR_OWN_ATTRIBUTES = {"container.health.state"}


def constants(package: str) -> dict[str, str]:
    """The string constants of all modules of a package, with their documentation, without deprecated ones."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    found = {}
    for folder in spec.submodule_search_locations:
        for path in Path(folder).glob("*.py"):
            body = ast.parse(path.read_text("utf-8")).body
            for statement, following in pairwise(body):
                match statement, following:
                    case (
                        ast.AnnAssign(value=ast.Constant(value=str(name))),
                        ast.Expr(value=ast.Constant(value=str(text))),
                    ):
                        if "Deprecated: " not in text:
                            found[name] = text
    return found


CONVENTIONAL_METRICS = constants("opentelemetry.semconv._incubating.metrics")
CONVENTIONAL_ATTRIBUTES = constants("opentelemetry.semconv._incubating.attributes")


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda each: each.name)
def test_a_metric_has_the_unit_and_the_kind_of_the_conventions(instrument: Instrument) -> None:
    if expected := (FROM_COLLECTOR | OUR_OWN).get(instrument.name):
        assert instrument.name not in CONVENTIONAL_METRICS, "the conventions have it now; hold to them"
    else:
        text = CONVENTIONAL_METRICS[instrument.name]
        kind, unit = (
            re.search(r"^Instrument: (.*)$", text, re.MULTILINE),
            re.search(r"^Unit: (.*)$", text, re.MULTILINE),
        )
        assert kind
        assert unit
        expected = kind[1], unit[1]
    assert (instrument.kind.value, instrument.unit) == expected


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_an_attribute_is_one_of_the_conventions_that_is_not_deprecated(attribute: str) -> None:
    assert (attribute in CONVENTIONAL_ATTRIBUTES) != (attribute in OUR_OWN_ATTRIBUTES)


def test_deprecated_names_would_be_noticed() -> None:
    assert "system.network.packets" not in CONVENTIONAL_METRICS
    assert "system.cpu.state" not in CONVENTIONAL_ATTRIBUTES


def test_the_schema_is_a_published_one() -> None:
    assert conventions.SCHEMA_URL in {each.value for each in Schemas}


def test_no_metric_is_in_the_table_twice() -> None:
    assert len({each.name for each in INSTRUMENTS}) == len(INSTRUMENTS) > 0


def test_the_documentation_lists_every_metric_with_its_unit_and_kind() -> None:
    kinds = {"counter": "counter", "updowncounter": "up-down counter", "gauge": "gauge"}
    rows = re.findall(
        r"^\| `([a-z0-9_.]+)` \| `([^`]+)` \| ([a-z -]+) \|", DOCUMENTATION.read_text("utf-8"), re.MULTILINE
    )
    assert sorted(rows) == sorted((each.name, each.unit, kinds[each.kind.value]) for each in INSTRUMENTS)
