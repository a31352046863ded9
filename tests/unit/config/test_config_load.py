from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.metrics import NoOpMeter

from gateway.base.settings import Settings
from gateway.component import Signal
from gateway.component.declaration import Component, Context
from gateway.components import COMPONENTS, Registry, receiver
from gateway.config import DEFAULT_YAML, Config, ConfigError, load, resolve_path, schema, show
from gateway.config.reference import insert, settings_of
from gateway.config.service import ServiceSettings
from gateway.pipeline import Instruments, Pipeline

Loader = Callable[..., Config]
DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_embedded_default_wires_all_three_signals_to_the_embedded_store() -> None:
    config = load(None)
    assert config.source is None
    assert config.warnings == ()
    assert set(config.service.pipelines) == set(Signal)
    assert config.used_receivers == {"otlp": frozenset(Signal), "hostmetrics": {Signal.METRICS}}
    assert config.used_exporters == {"timescale": frozenset(Signal)}
    assert config.exporters["timescale"].dsn is None  # type: ignore[attr-defined]
    protocols: Any = config.receivers["otlp"].protocols  # type: ignore[attr-defined]
    assert (protocols.grpc.endpoint, protocols.http.endpoint) == ("127.0.0.1:4317", "127.0.0.1:4318")


def test_a_null_body_takes_the_defaults_at_any_depth(load_text: Loader) -> None:
    config = load_text("receivers:\n  otlp:\n    protocols:\n      grpc:\n      http:\nexporters: {store: }\n")
    protocols: Any = config.receivers["otlp"].protocols  # type: ignore[attr-defined]
    assert protocols.grpc.endpoint == "127.0.0.1:1"
    assert protocols.http is None  # it is null by its type, not left empty
    assert config.service.delivery.max_in_flight == 64 * 2**20
    assert config.service.delivery.shutdown_grace == timedelta(seconds=10)
    assert config.service.telemetry.traces.sampling_ratio == 0.01


def test_components_of_one_type_are_told_apart_by_name(load_text: Loader) -> None:
    config = load_text(
        "receivers: {otlp: }\nexporters: {store: , store/two: {connections: 2}}\n",
        "service: {pipelines: {logs: {receivers: [otlp], exporters: [store, store/two]}}}",
    )
    assert [one.connections for one in config.exporters.values()] == [1, 2]  # type: ignore[attr-defined]
    assert config.used_exporters == {"store": {Signal.LOGS}, "store/two": {Signal.LOGS}}


def test_a_component_in_no_pipeline_is_a_warning_with_its_line(load_text: Loader) -> None:
    config = load_text("receivers:\n  otlp:\n  otlp/spare:\nexporters: {store: }\n")
    (warning,) = config.warnings
    assert str(warning).endswith(
        "hub.yaml:3: receivers.otlp/spare: the receiver 'otlp/spare' is in no pipeline and will not run"
    )


def test_anchors_and_merge_keys_work_and_what_is_written_wins_over_what_is_merged(load_text: Loader) -> None:
    exporters = "exporters:\n  store/a: &a {connections: 2, ratio: 3}\n  store:\n    <<: *a\n    ratio: 4\n"
    config = load_text("receivers: {otlp: }\n" + exporters)
    exporter: Any = config.exporters["store"]
    assert (exporter.connections, exporter.ratio) == (2, 4)


def test_the_file_is_found_by_option_then_environment_then_not_at_all() -> None:
    environ = {"OBSHUB_CONFIG": "/etc/hub.yaml"}
    assert resolve_path(Path("a.yaml"), environ) == Path("a.yaml")
    assert resolve_path(None, environ) == Path("/etc/hub.yaml")
    assert resolve_path(None, {"OBSHUB_CONFIG": ""}) is None
    assert resolve_path(None, {}) is None


def test_what_is_shown_is_complete_and_can_be_loaded_again(tmp_path: Path) -> None:
    shown = show(load(None))
    assert "retention:\n      metrics: 30d" in shown
    path = tmp_path / "shown.yaml"
    path.write_text(shown)
    again = load(path)
    assert again.receivers == load(None).receivers
    assert again.exporters == load(None).exporters
    assert again.service == load(None).service


def test_secrets_are_masked_when_shown(load_text: Loader) -> None:
    config = load_text(
        """
receivers: {otlp: }
exporters:
  store:
    dsn: postgresql://me:hunter22@db/x
    url: https://me:hunter22@example.com/x?a=b
    headers: {Authorization: Bearer hunter22, x-api-key: hunter22, user: me, token_file: /run/token}
    anything: ["host=db user=me password=hunter22 dbname=x", "password='hunter22 hunter22' user=me"]
"""
    )
    assert "hunter22" not in show(config)
    assert yaml.safe_load(show(config))["exporters"]["store"] | {"size": 0, "connections": 0, "ratio": 0} == {
        "dsn": "********",
        "url": "https://me:********@example.com/x?a=b",
        "headers": {"Authorization": "********", "x-api-key": "********", "user": "me", "token_file": "/run/token"},
        "anything": ["host=db user=me password=******** dbname=x", "password=******** user=me"],
        "size": 0,
        "connections": 0,
        "ratio": 0,
    }


def test_the_schema_describes_every_component_under_its_names(registry: Registry) -> None:
    found = schema(registry)
    assert list(found["properties"]["receivers"]["patternProperties"]) == [
        *("^otlp(/.+)?$", "^hostmetrics(/.+)?$"),
        "^x-",
    ]
    exporter, nothing = found["properties"]["exporters"]["patternProperties"]["^store(/.+)?$"]["anyOf"]
    assert nothing == {"type": "null"}
    settings = found["$defs"][exporter["$ref"].rpartition("/")[2]]
    assert settings["additionalProperties"] is False
    assert settings["properties"]["connections"]["anyOf"] == [
        {"type": "integer", "maximum": 32},
        {"$ref": "#/$defs/Substitution"},
    ]
    receiver = found["$defs"]["Receiver"]["properties"]
    assert receiver["interval"]["default"] == "15s"


def test_every_reference_in_the_schema_leads_somewhere() -> None:
    found = schema()

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"].removeprefix("#/$defs/")
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    assert set(references(found)) <= set(found["$defs"])
    assert "TimescaleConfig" in found["$defs"]


@pytest.mark.parametrize("name", [*COMPONENTS.receivers, *COMPONENTS.exporters])
def test_every_registered_component_has_settings_with_defaults_and_a_factory(name: str) -> None:
    component = COMPONENTS.receivers.get(name) or COMPONENTS.exporters[name]
    assert issubclass(component.settings, Settings)
    # Where to send has no default that would be right anywhere.
    required = {name for name, field in component.settings.model_fields.items() if field.is_required()}
    assert required <= {"endpoint"}
    component.settings.model_validate(dict.fromkeys(required, "http://127.0.0.1:4317"))
    assert callable(component.create)


def test_a_component_is_made_by_the_factory_of_its_type() -> None:
    settings: Any = load(None).receivers["otlp"]
    consumer = Pipeline({}, 1, Instruments(NoOpMeter("test")))
    assert receiver("otlp/internal").create("otlp/internal", settings, consumer, Context()).name == "otlp/internal"
    assert receiver("otlp/internal").listens
    assert not receiver("hostmetrics").listens


def test_every_setting_is_in_the_reference() -> None:
    text = DOCUMENT.read_text()
    components: list[Component] = [
        *COMPONENTS.receivers.values(),
        *COMPONENTS.processors.values(),
        *COMPONENTS.exporters.values(),
        *COMPONENTS.extensions.values(),
    ]
    for component in components:
        for path, *_ in settings_of(component.settings):
            assert f"`{path}`" in text, "run python -m gateway.config.reference docs/configuration.md"
    for path, *_ in settings_of(ServiceSettings):
        assert f"`{path}`" in text, "run python -m gateway.config.reference docs/configuration.md"


def test_making_the_reference_anew_leaves_the_rest_of_the_document_alone(registry: Registry) -> None:
    text = DOCUMENT.read_text()
    anew = insert(text, registry)
    assert "| `connections` | number | `1` |" in anew
    assert insert(anew, registry) == anew
    assert anew.startswith(text[: text.index("## Reference of the settings")])


def test_the_document_shows_the_embedded_default() -> None:
    assert DEFAULT_YAML.split("\n", 1)[1] in DOCUMENT.read_text()


@pytest.mark.parametrize(
    ("endpoint", "circle"),
    [
        ("http://127.0.0.1:4317", True),
        ("http://localhost:4318", True),
        ("http://127.0.0.1:14317", False),
        ("http://far.example.com:4317", False),
    ],
)
def test_an_exporter_that_sends_to_the_hub_itself_is_a_warning(tmp_path: Path, endpoint: str, circle: bool) -> None:
    path = tmp_path / "hub.yaml"
    path.write_text(
        "receivers: {otlp: {protocols: {grpc: {endpoint: '127.0.0.1:4317'}, http: {endpoint: '127.0.0.1:4318'}}}}\n"
        f"exporters: {{otlp: {{endpoint: '{endpoint}'}}}}\n"
        "service: {pipelines: {traces: {receivers: [otlp], exporters: [otlp]}}}\n"
    )
    assert ["come back to it" in str(warning) for warning in load(path).warnings] == [True] * circle


def test_settings_that_contradict_are_refused_with_their_line(tmp_path: Path) -> None:
    """Late points would be acknowledged, and take the place of rollups whose points are gone."""
    path = tmp_path / "hub.yaml"
    path.write_text(
        "receivers: {otlp: }\nexporters:\n  timescale:\n    retention: {metrics: 2d}\n"
        "    accept: {past: 30d}\nservice: {pipelines: {metrics: {receivers: [otlp], exporters: [timescale]}}}\n"
    )
    with pytest.raises(ConfigError) as found:
        load(path)
    assert str(found.value) == (
        f"{path}:5: exporters.timescale.accept.past: 30d is longer than retention.metrics (2d): what is older would be "
        "accepted and dropped at once; make the one shorter, or the other longer"
    )
