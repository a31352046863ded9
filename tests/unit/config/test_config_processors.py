"""Processors and named pipelines in a configuration file."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.component import Signal
from gateway.config import Config, ConfigError, load, schema, show

TEMPLATE = """\
receivers:
  otlp:
    protocols: {{grpc: {{endpoint: 127.0.0.1:4317}}}}
  otlp/second:
    protocols: {{grpc: {{endpoint: 127.0.0.1:14317}}}}
processors:
{processors}
exporters:
  timescale:
  loki: {{endpoint: http://loki:3100}}
  otlp/tempo: {{endpoint: http://tempo:4317}}
service:
  pipelines:
{pipelines}
"""
PIPELINE = "    logs: {receivers: [otlp, otlp/second], processors: [%s], exporters: [timescale]}"


def write(tmp_path: Path, processors: str, pipelines: str = PIPELINE % "") -> Path:
    path = tmp_path / "hub.yaml"
    path.write_text(TEMPLATE.format(processors=processors, pipelines=pipelines))
    return path


def config(tmp_path: Path, pipelines: str, processors: str = "  redact: {}") -> Config:
    return load(write(tmp_path, processors, pipelines))


def problems(tmp_path: Path, processors: str, named: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, processors, PIPELINE % named))
    return [str(each).split("hub.yaml:")[1] for each in caught.value.problems]


AT = "14: service.pipelines.logs.processors[0]: the processor "
ALL = """\
  filter/noise: {drop: [severity < info, 'body matches "^GET /healthz"']}
  attributes: {actions: [{action: insert, key: env, value: prod}]}
  resource: {attributes: [{action: delete, pattern: "process\\\\..*"}]}
  redact:
  sample: {ratio: 0.5}
  limit: {records_per_second: 100}
  python: {function: "my_filters:clean"}"""
NAMED = "filter/noise, attributes, resource, redact, sample, limit, python"


def test_all_processors_can_be_named_and_keep_their_order(tmp_path: Path) -> None:
    found = load(write(tmp_path, ALL, PIPELINE % NAMED))
    assert found.service.pipelines["logs"].processors == NAMED.split(", ")
    assert set(found.used_processors) == set(found.processors) == set(NAMED.split(", "))
    assert found.used_processors["redact"] == {Signal.LOGS}
    assert not [each for each in found.warnings if each.place[0] == "processors"]


def test_a_configuration_is_shown_as_it_can_be_read_again(tmp_path: Path) -> None:
    shown = show(load(write(tmp_path, ALL, PIPELINE % NAMED)))
    (tmp_path / "again.yaml").write_text(shown)
    again = load(tmp_path / "again.yaml")
    assert again.processors == load(write(tmp_path, ALL, PIPELINE % NAMED)).processors
    assert show(again) == shown


def test_the_secret_of_a_hash_is_not_shown(tmp_path: Path) -> None:
    processors = "  attributes: {hash_secret: hunter2, actions: [{action: hash, key: a}]}"
    assert "hunter2" not in show(load(write(tmp_path, processors, PIPELINE % "attributes")))


def test_the_schema_knows_processors_and_named_pipelines() -> None:
    found = schema()
    section = found["properties"]["processors"]
    assert {f"^{name}(/.+)?$" for name in ("filter", "redact", "python")} <= set(section["patternProperties"])
    settings = found["$defs"]["RedactConfig"]["properties"]
    assert settings["allowed_values"]["items"]["type"] == "string"
    assert "processors" in found["$defs"]["PipelineSettings"]["properties"]


@pytest.mark.parametrize(
    ("processors", "named", "problem"),
    [
        ("  filtre: {}", "", "7: processors.filtre: unknown processor 'filtre'; did you mean 'filter'?"),
        ("  redact: {}", "redcat", AT + "'redcat' is not defined under 'processors'; did you mean 'redact'?"),
        ("  redact: {}", "batch", AT + "'batch' is not defined under 'processors'; leave it out: batches are built in"),
        ("  filter: {drop: [kind == server]}", "filter", AT + "'filter' takes traces, not logs"),
        ("  sample: {always: [kind == server]}", "sample", AT + "'sample' takes traces, not logs"),
        (
            "  filter: {drop: [severity == wran]}",
            "filter",
            "7: processors.filter.drop[0]: severity has no value 'wran'; did you mean 'warn'? "
            "(character 13 of the condition), found 'severity == wran'",
        ),
        (
            "  redact: {patterns: {own: '(a'}}",
            "redact",
            "7: processors.redact.patterns.own: '(' without its ')' at character 1 of the pattern, found '(a'",
        ),
        (
            "  redact: {detekt: [ip]}",
            "redact",
            "7: processors.redact.detekt: unknown setting 'detekt'; did you mean 'detect'?",
        ),
        (
            "  attributes: {actions: [{action: insret, key: a, value: 1}]}",
            "attributes",
            "7: processors.attributes.actions[0].action: expected 'insert', 'update', 'upsert', 'delete', 'rename' or ",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, processors: str, named: str, problem: str) -> None:
    assert [each for each in problems(tmp_path, processors, named) if each.startswith(problem)]


def test_one_is_named_once_in_a_pipeline(tmp_path: Path) -> None:
    assert problems(tmp_path, "  redact: {}", "redact, redact") == [
        "14: service.pipelines.logs.processors[1]: the processor 'redact' is named twice in this pipeline"
    ]


def test_one_that_is_in_no_pipeline_is_told(tmp_path: Path) -> None:
    found = load(write(tmp_path, "  redact: {}"))
    assert [str(each).split("hub.yaml:")[1] for each in found.warnings if each.place[0] == "processors"] == [
        "7: processors.redact: the processor 'redact' is in no pipeline and will not run"
    ]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("log/audit", "expected 'metrics', 'logs' or 'traces', with a name of its own behind it as in 'logs/audit'"),
        ("logs/", "expected 'metrics', 'logs' or 'traces', with a name of its own behind it"),
        ("log", "expected 'metrics', 'logs' or 'traces', found 'log'"),
    ],
)
def test_a_pipeline_is_named_by_its_signal(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        config(tmp_path, f"    {name}: {{receivers: [otlp], exporters: [timescale]}}")


def test_several_pipelines_of_a_signal_may_share_what_they_name(tmp_path: Path) -> None:
    found = config(
        tmp_path,
        "    logs: {receivers: [otlp, otlp/second], exporters: [timescale]}\n"
        "    logs/audit: {receivers: [otlp], processors: [redact], exporters: [timescale, otlp/tempo]}\n"
        "    traces/sampled: {receivers: [otlp/second], processors: [redact], exporters: [otlp/tempo]}",
    )
    assert found.used_receivers == {"otlp": {Signal.LOGS}, "otlp/second": {Signal.LOGS, Signal.TRACES}}
    assert found.used_exporters == {"timescale": {Signal.LOGS}, "otlp/tempo": {Signal.LOGS, Signal.TRACES}}
    assert found.service.signals == {Signal.LOGS, Signal.TRACES}


OTLP, BOTH = "receivers: [otlp]", "receivers: [otlp, otlp/second]"


@pytest.mark.parametrize(
    ("pipelines", "kept"),
    [
        ([f"logs: {{{OTLP}, exporters: [timescale, loki]}}"], "events"),
        ([f"logs: {{{OTLP}, exporters: [timescale]}}", f"logs/loki: {{{BOTH}, exporters: [loki]}}"], "events"),
        ([f"logs: {{{BOTH}, exporters: [timescale]}}", f"logs/loki: {{{OTLP}, exporters: [loki]}}"], "all"),
        (
            [
                f"logs: {{{OTLP}, exporters: [timescale]}}",
                f"logs/loki: {{{OTLP}, processors: [redact], exporters: [loki]}}",
            ],
            "all",
        ),
        (
            [
                f"logs: {{{OTLP}, processors: [redact], exporters: [timescale]}}",
                f"logs/loki: {{{OTLP}, exporters: [loki]}}",
            ],
            "events",
        ),
    ],
)
def test_a_store_keeps_events_only_where_loki_gets_all_of_its_logs(
    tmp_path: Path, pipelines: list[str], kept: str
) -> None:
    assert config(tmp_path, "    " + "\n    ".join(pipelines)).kept_logs("timescale") == kept


@pytest.mark.parametrize(
    ("pipelines", "kept"),
    [
        ([f"logs: {{{OTLP}, exporters: [timescale, otlp/tempo]}}"], True),
        ([f"logs: {{{BOTH}, exporters: [timescale]}}", f"logs/2: {{{OTLP}, exporters: [otlp/tempo]}}"], True),
        ([f"logs: {{{OTLP}, exporters: [timescale]}}", f"logs/2: {{{BOTH}, exporters: [otlp/tempo]}}"], False),
        (
            [
                f"logs: {{{OTLP}, processors: [redact], exporters: [timescale]}}",
                f"logs/2: {{{OTLP}, exporters: [otlp/tempo]}}",
            ],
            False,
        ),
        ([f"logs: {{{OTLP}, processors: [redact], exporters: [timescale, otlp/tempo]}}"], True),
    ],
)
def test_others_keep_what_an_exporter_gets_where_a_store_gets_the_same_bytes(
    tmp_path: Path, pipelines: list[str], *, kept: bool
) -> None:
    found = config(tmp_path, "    " + "\n    ".join(pipelines))
    assert found.kept_by_others("otlp/tempo") == ({Signal.LOGS} if kept else set())
    assert found.when_full("otlp/tempo") == ("drop_oldest" if kept else "refuse")
