"""Components are found by entry points, and what is wrong with one is said of the distribution that it is of."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway import components
from gateway.cli import main
from gateway.component import Component, ExporterComponent
from gateway.components import COMPONENTS, SECTIONS, ComponentError
from gateway.config import Config, ConfigError, load, schema
from gateway.config.reference import reference
from tests.support.logged import Logged

ROOT = Path(__file__).parents[2]

KAFKA = """
from gateway.base.settings import ExporterSettings
from gateway.component import ExporterComponent

class KafkaConfig(ExporterSettings):
    '''Sends to Kafka.'''

    brokers: list[str]
    '''Where it is.'''

def create(name, settings, context):
    raise NotImplementedError

COMPONENT = ExporterComponent(settings=KafkaConfig, create=create)
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution of one module that has one entry point."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    made: list[str] = []

    def put(name: str, module: str = KAFKA, *, type_: str = "kafka", section: str = "exporters") -> None:
        (site / f"{name}_of_a_test.py").write_text(module)
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[obs_hub.{section}]\n{type_} = {name}_of_a_test:COMPONENT\n")
        made.append(f"{name}_of_a_test")
        components._installed.cache_clear()
        for found in (getattr(COMPONENTS, each) for each in SECTIONS):
            found._loaded.pop(type_, None)

    yield put
    for module in made:
        sys.modules.pop(module, None)
    components._installed.cache_clear()
    for section in SECTIONS:
        getattr(COMPONENTS, section)._loaded.pop("kafka", None)
        getattr(COMPONENTS, section)._loaded.pop("timescale", None)


def configured(tmp_path: Path, exporter: str = "kafka: {brokers: [a]}") -> Config:
    path = tmp_path / "hub.yaml"
    name = exporter.partition(":")[0]
    path.write_text(
        f"receivers: {{otlp: }}\nexporters:\n  {exporter}\n"
        f"service: {{pipelines: {{logs: {{receivers: [otlp], exporters: [{name}]}}}}}}\n"
    )
    return load(path)


def refusal(tmp_path: Path, exporter: str = "kafka: {brokers: [a]}") -> str:
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, exporter)
    return str(caught.value)


# -- ours --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", [*SECTIONS, "sources"])
def test_ours_are_what_the_project_declares(section: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["entry-points"][f"obs_hub.{section}"]
    found = getattr(COMPONENTS, section)
    assert set(declared) <= set(found)
    for name in declared:
        assert isinstance(found[name], Component)
        assert callable(found[name].create)


def test_checking_a_configuration_loads_nothing_that_runs_components() -> None:
    heavy = ("grpc", "psycopg", "litestar", "opentelemetry", "numpy", "httpx", "exporters.loki", "gateway.pipeline")
    program = (
        "import sys; from gateway.config import load; load(None)\n"
        f"heavy = {heavy}\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_said_without_looking_for_components() -> None:
    program = (
        "import sys; from gateway import components; from gateway.cli import main\n"
        "sys.argv = ['obs-hub', '--version']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(components._installed.cache_info().misses)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"


# -- of others ---------------------------------------------------------------------------------------------------------


def test_one_of_another_distribution_is_configured_like_ours(install: Install, tmp_path: Path) -> None:
    install("hub_kafka")
    config = configured(tmp_path, "kafka/audit: {brokers: [a, b]}")
    assert config.exporters["kafka/audit"].brokers == ["a", "b"]  # type: ignore[attr-defined]
    assert isinstance(components.exporter("kafka/audit"), ExporterComponent)
    assert "hub.yaml:3: exporters.kafka.brokers: the setting 'brokers' is required" in refusal(tmp_path, "kafka: {}")


def test_its_settings_are_in_the_schema_and_the_reference(install: Install) -> None:
    install("hub_kafka")
    assert "^kafka(/.+)?$" in schema()["properties"]["exporters"]["patternProperties"]
    assert "### Exporter `kafka`\n\nSends to Kafka.\n\nSignals: metrics, logs, traces.\n" in reference()


def test_what_no_configuration_names_is_not_imported(install: Install) -> None:
    install("hub_kafka", "raise SystemExit('imported')")
    assert "kafka" in COMPONENTS.exporters
    assert load(None).used_exporters.keys() == {"timescale"}
    assert "hub_kafka_of_a_test" not in sys.modules


def test_an_unknown_type_names_what_is_installed_and_what_was_meant(install: Install, tmp_path: Path) -> None:
    install("hub_kafka")
    advice = "unknown exporter 'kafak'; did you mean 'kafka'? known: kafka, loki, otlp, timescale"
    assert f"hub.yaml:3: exporters.kafak: {advice}" in refusal(tmp_path, "kafak: {}")


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("import no_such_module", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("", "cannot be imported: AttributeError"),
        ("COMPONENT = 'kafka'", "is 'kafka', no ExporterComponent"),
        (
            KAFKA.replace("ExporterComponent(", "ReceiverComponent(").replace("import ExporterC", "import ReceiverC"),
            "no E",
        ),
        (
            KAFKA.replace("(ExporterSettings)", ""),
            "its settings are <class 'hub_kafka_of_a_test.KafkaConfig'>, no",
        ),
        (KAFKA.replace("create=create", "create=None"), "no function to make one by"),
    ],
)
def test_one_that_cannot_be_used_is_told_with_its_distribution(
    install: Install, tmp_path: Path, logged: Logged, module: str, why: str
) -> None:
    install("hub_kafka", module)
    (problem,) = [line for line in refusal(tmp_path).splitlines() if "cannot be used" in line]
    assert "hub.yaml:3: exporters.kafka: the exporter 'kafka' of the distribution hub_kafka cannot be used: " in problem
    assert why in problem
    assert "^kafka(/.+)?$" not in schema()["properties"]["exporters"]["patternProperties"]
    assert len([entry for entry in logged.of("a component cannot be used") if why in entry["reason"]]) == 1


def test_what_a_command_logs_is_no_part_of_what_it_prints(install: Install) -> None:
    """Of one that does not ask how logs are configured."""
    install("hub_kafka", "import no_such_module")
    done = CliRunner().invoke(main, ["config", "schema"])
    assert json.loads(done.stdout)["title"]
    assert "a component cannot be used" in done.stderr


def test_a_name_that_two_distributions_claim_is_neithers(install: Install, tmp_path: Path) -> None:
    install("hub_kafka")
    install("other_kafka")
    assert "the exporter 'kafka' is claimed by hub_kafka and by other_kafka; uninstall all but one" in refusal(tmp_path)


def test_a_name_of_ours_is_not_taken_over_unnoticed(install: Install) -> None:
    install("hub_kafka", type_="timescale")
    with pytest.raises(ComponentError, match="'timescale' is claimed by hub_kafka and by observability-hub"):
        components.exporter("timescale")


def test_of_two_installations_the_first_on_the_path_counts(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("hub_kafka")
    behind = tmp_path / "behind" / "hub_kafka-0.9.dist-info"
    behind.mkdir(parents=True)
    (behind / "METADATA").write_text("Metadata-Version: 2.1\nName: hub_kafka\nVersion: 0.9\n")
    (behind / "entry_points.txt").write_text("[obs_hub.exporters]\nkafka = no_such_module:COMPONENT\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(behind.parent)])
    components._installed.cache_clear()
    assert configured(tmp_path).used_exporters.keys() == {"kafka"}
