"""A Collector's file: each key that the gateway has not says what to write instead; indentation is told in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.components import COMPONENTS
from gateway.config import ConfigError, _collector, load

PAGE = Path(__file__).parents[3] / "docs/from-the-collector.md"
SERVICE = "service: {pipelines: {logs: {receivers: [otlp], exporters: [timescale]}}}\n"
GOOD = "receivers:\n  otlp:\nexporters:\n  timescale:\n"


def problems(tmp_path: Path, text: str) -> list[str]:
    """What is wrong with a file, one a line, without its folder."""
    path = tmp_path / "hub.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


COLLECTOR = """
receivers:
  otlp:
    protocols:
      grpc: {endpoint: 4317, keepalive: {}}
      http: {endpoint: ":4318", include_metadata: true}
  prometheus/own: {config: {}}
  filelog: {include: [/var/log/*.log]}
  nginx: {}
processors:
  batch: {}
  memory_limiter/big: {check_interval: 1s}
  tail_sampling: {}
  redaction: {}
  probabilistic_sampler: {}
  filter: {drop: [severity < warn], logs: {log_record: []}}
  attributes: {actions: [{action: delete, key: a}], include: {}}
exporters:
  otlphttp/vendor: {endpoint: "https://example.com"}
  debug: {verbosity: detailed}
  otlp/tempo:
    endpoint: tempo:4317
    tls: {insecure: true}
    sending_queue: {queue_size: 100}
    retry_on_failure: {enabled: true, max_elapsed_time: 5m}
connectors:
  spanmetrics: {}
extensions:
  health_check: {}
  zpages: {}
service:
  extensions: [health_check]
  telemetry: {logs: {encoding: json}, metrics: {level: detailed}}
  pipelines:
    traces: {receivers: [otlp], processors: [batch, memory_limiter], exporters: [otlp/tempo]}
"""


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("receivers.otlp.protocols.grpc.endpoint", "write 127.0.0.1:4317"),
        ("receivers.otlp.protocols.grpc.keepalive", "leave it out"),
        ("receivers.otlp.protocols.http.include_metadata", "leave it out: headers of clients are not passed on"),
        ("receivers.prometheus/own", "Alloy's prometheus.scrape"),
        ("receivers.filelog", "Alloy's loki.source.file"),
        ("receivers.nginx", "run Alloy or a Collector in front"),
        ("processors.batch", "batches are built in"),
        ("processors.memory_limiter/big", "it is built in; 'service.delivery.max_in_flight'"),
        ("processors.tail_sampling", "run Alloy or a Collector in front"),
        ("exporters.otlphttp/vendor", "write 'otlp', which sends over gRPC; with 'protocol: http/protobuf' over HTTP"),
        ("exporters.debug", "`obs-hub logs --follow`"),
        ("exporters.otlp/tempo.endpoint", "write http://tempo:4317"),
        ("exporters.otlp/tempo.tls.insecure", "http:// is plain text"),
        ("exporters.otlp/tempo.sending_queue", "write 'spool'"),
        ("exporters.otlp/tempo.retry_on_failure.enabled", "always tried again"),
        ("exporters.otlp/tempo.retry_on_failure.max_elapsed_time", "'spool: {max_age: …}'"),
        ("connectors.spanmetrics", "SQL on the view 'spans'"),
        ("extensions.health_check", "GET /api/v1/health"),
        ("extensions.zpages", "obs-hub doctor"),
        ("service.telemetry.logs.encoding", "write 'format'"),
        ("service.telemetry.metrics.level", "write 'enabled'"),
        ("service.pipelines.traces.processors[1]", "it is built in; 'service.delivery.max_in_flight'"),
        ("processors.filter.logs", "write conditions under 'drop' and 'keep'"),
        ("processors.attributes.include", "write a condition under 'where'"),
        ("processors.redaction", "write 'redact'"),
        ("processors.probabilistic_sampler", "write 'sample' with 'ratio: 0.1'"),
    ],
)
def test_each_key_that_is_not_taken_says_what_to_write(tmp_path: Path, key: str, advice: str) -> None:
    found = [problem for problem in problems(tmp_path, COLLECTOR) if f": {key}: " in problem]
    assert len(found) == 1
    assert advice in found[0]


def test_what_has_advice_is_not_known_all_the_same() -> None:
    for section, known in (
        ("receivers", COMPONENTS.receivers),
        ("processors", COMPONENTS.processors),
        ("exporters", COMPONENTS.exporters),
        ("extensions", COMPONENTS.extensions),
    ):
        assert not set(_collector._TYPES[section]) & set(known)


def test_components_that_the_advice_names_are_there() -> None:
    assert {"otlp", "timescale", "loki"} <= set(COMPONENTS.exporters)
    assert {"otlp", "hostmetrics", "journald"} <= set(COMPONENTS.receivers)
    assert {"filter", "attributes", "resource", "redact", "sample", "limit", "python"} <= set(COMPONENTS.processors)
    assert {"tokens", "api", "pipelines"} <= set(COMPONENTS.extensions)
    assert (PAGE.parent.parent / _collector.PAGE).is_file()


def test_the_file_of_the_page_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "hub.yaml"
    path.write_text(PAGE.read_text().split("```yaml\n")[1].split("```")[0])
    config = load(path)
    assert not config.warnings
    exporter: Any = config.exporters["otlp/vendor"]
    assert exporter.spool.max_size == 4 * 2**30


def test_a_key_of_ones_own_may_stand_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "hub.yaml"
    path.write_text(
        "x-common: &common {connections: 2}\n"
        "receivers:\n  x-note: {any: thing}\n  otlp: {x-why: because, protocols: {grpc: {x-more: [1]}}}\n"
        "exporters:\n  timescale: {<<: *common, x-owner: me}\n" + SERVICE
    )
    exporter: Any = load(path).exporters["timescale"]
    assert exporter.connections == 2
    assert "otlp" in load(path).receivers


def test_an_unknown_key_of_a_header_is_a_header(tmp_path: Path) -> None:
    path = tmp_path / "hub.yaml"
    path.write_text(GOOD + "  otlp: {endpoint: 'http://h:1', headers: {x-api-key: a}}\n" + SERVICE)
    exporter: Any = load(path).exporters["otlp"]
    assert list(exporter.headers) == ["x-api-key"]


SECTION = "it is a section: begin it at the start of the line"
PARSER = ("block end", "block mapping", "block sequence", "scanning", "simple key", "token", "expected ':'")
"""Words of the parser's, which say nothing to whoever wrote the file."""


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (
            "receivers:\n  otlp:\n    protocols:\n      grpc:\n     http:\n",
            5,
            "the indentation fits nothing above: 5 sp",
        ),
        ("receivers:\n  otlp:\n exporters:\n", 3, "1 space here, and no space on line 1"),
        ("a:\n  b: c\n    d:\n", 3, "indented deeper than line 2, which has a value already"),
        ("a:\n  b\n  c:\n", 3, "line 2 lacks its colon, or the space behind it"),
        ("a:\n  endpoint:127.0.0.1:4317\n  auth: x\n", 3, "line 2 lacks its colon, or the space behind it"),
        ("a:\n\tb:\n", 2, "a tab; YAML is indented by spaces alone"),
        ("a:\n  b: c: d\n", 2, "a second ': ' in one line; put the value in quotes"),
        ("a: [b, c\nd: [e]\n", 2, "the '[' of line 1 is not closed by ']'"),
        ("a: {b: c\nd: {}\n", 2, "the '{' of line 1 is not closed by '}'"),
        ("a:\n  b: [c]\n  - d\n", 3, "a list entry ('- ') among the keys of the mapping that begins on line 2"),
        ("a:\n  - b\n  c\n", 3, "neither 'key: value' nor '- entry'"),
        ("a:\n  - b\n  c: d\n", 3, "its entries begin with '- '"),
        ("a:\n  b: 'c\nd:\n", 2, "a quote that begins here is never closed"),
        ("a: @b\n", 1, "a value cannot begin with '@'; put it in quotes"),
        ("a: 1\n---\nb: 2\n", 2, "a second document begins here with '---'"),
    ],
)
def test_what_is_no_yaml_is_told_in_words(tmp_path: Path, text: str, line: int, said: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(f"hub.yaml:{line}: not valid YAML: ")
    assert said in problem
    assert not [word for word in PARSER if word in problem]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("receivers:\notlp:\n  protocols:\nexporters: {timescale: }\n", "hub.yaml:2: otlp: unknown section 'otlp'; it "
            "belongs below 'receivers' or 'exporters': indent it"),
        ("receivers:\n  otlp:\n  protocols:\n    grpc:\nexporters: {timescale: }\n",
            "hub.yaml:3: receivers.protocols: unknown receiver 'protocols'; it is a setting of 'otlp': indent it"),
        ("receivers:\n  otlp:\n    protocols:\n    grpc:\nexporters: {timescale: }\n",
            "unknown setting 'grpc'; it is a setting of 'protocols': indent it further"),
        ("receivers:\n  otlp:\n    protocols:\n      grpc:\n      endpoint: a:1\nexporters: {timescale: }\n",
            "it is a setting of 'grpc' or 'http': indent it further"),
        ("receivers:\n  otlp:\n    exporters:\n      timescale:\n", SECTION),
        ("receivers:\n  otlp:\n  exporters:\n    timescale:\n", SECTION),
        (GOOD + "    retention:\n      logs: 30d\n      accept:\n        past: 1d\n",
            "unknown setting 'accept'; it is a setting of 'timescale': indent it less"),
        (GOOD + "pipelines: {}\n", "it belongs below 'extensions' or 'service': indent it"),
        (GOOD + "  otlpp: {endpoint: 'http://h:1'}\n", "unknown exporter 'otlpp'; did you mean 'otlp'? known: loki, "),
    ],
)  # fmt: skip
def test_what_is_indented_wrongly_says_where_it_belongs(tmp_path: Path, text: str, said: str) -> None:
    assert any(said in problem for problem in problems(tmp_path, text + SERVICE))


@pytest.mark.parametrize("endpoint", ["4317", "':4317'", "'4317'", "http://0.0.0.0:4317/v1/traces", "0.0.0.0"])
def test_an_address_that_lacks_something_is_not_put_in_quotes(tmp_path: Path, endpoint: str) -> None:
    text = f"receivers: {{otlp: {{protocols: {{grpc: {{endpoint: {endpoint}}}}}}}}}\nexporters: {{timescale: }}\n"
    (problem,) = problems(tmp_path, text + SERVICE)
    assert "put it in quotes" not in problem
    assert (
        "host:port" in problem or "write 127.0.0.1:4317" in problem or "can be reached from other machines" in problem
    )


def test_secrets_in_an_address_are_not_repeated(tmp_path: Path) -> None:
    text = GOOD + "  otlp: {endpoint: 'me:hunter22@tempo:4317'}\n" + SERVICE
    assert "hunter22" not in "".join(problem for problem in problems(tmp_path, text) if "write" in problem)


def test_the_page_tells_of_each_processor_and_of_the_settings_that_people_bring() -> None:
    page = PAGE.read_text()
    named = [
        "batch",
        "memory_limiter",
        "sending_queue",
        "otlphttp",
        "health_check",
        "prometheus",
        "filelog",
        "x-",
        "4317",
    ]
    assert [name for name in named if f"`{name}" not in page and f": {name}`" not in page] == []
    assert yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
