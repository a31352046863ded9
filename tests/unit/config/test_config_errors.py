from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import ConfigError, load

Problems = Callable[..., list[str]]
GOOD = "receivers: {otlp: }\nexporters: {store: }\n"


def test_an_unknown_setting_names_its_line_its_path_and_the_nearest_known_one(problems_of: Problems) -> None:
    text = "receivers:\n  otlp:\n    protocols:\n      grpc:\n        endpont: x\nexporters: {store: }\n"
    assert problems_of(text) == [
        "hub.yaml:5: receivers.otlp.protocols.grpc.endpont: unknown setting 'endpont'; did you mean 'endpoint'?"
    ]


def test_a_setting_like_no_other_gets_the_list_of_the_known_ones(problems_of: Problems) -> None:
    assert problems_of("receivers: {otlp: {zzz: 1}}\nexporters: {store: }\n") == [
        "hub.yaml:1: receivers.otlp.zzz: unknown setting 'zzz'; known: interval, protocols"
    ]


def test_everything_that_is_wrong_is_said_at_once_in_the_order_of_the_file(problems_of: Problems) -> None:
    text = """\
receivers:
  otlp: {interval: 5x}
  foo:
exporters:
  store: {connections: 99, size: big, headers: []}
connectors:
"""
    service = """\
service:
  pipelines:
    metrics: {receivers: [otlp, otlp, otpl], exporters: []}
    logs: {receivers: [hostmetrics]}
    metric: {}
  telemetry: {traces: {sampling_ratio: 3}, logs: {level: loud}}
"""
    assert problems_of(text, service) == [
        "hub.yaml:2: receivers.otlp.interval: expected a duration such as 15s, 1h30m or 30d, found '5x'",
        "hub.yaml:3: receivers.foo: unknown receiver 'foo'; known: hostmetrics, otlp",
        "hub.yaml:5: exporters.store.headers: expected a mapping, found a list",
        "hub.yaml:5: exporters.store.size: expected a size such as 4MiB, 500KB or a number of bytes, found 'big'",
        "hub.yaml:5: exporters.store.connections: expected less than or equal to 32, found 99",
        "hub.yaml:6: connectors: the gateway has no connectors",
        "hub.yaml:9: service.pipelines.metrics.exporters: empty; expected at least one",
        "hub.yaml:9: service.pipelines.metrics.receivers[1]: the receiver 'otlp' is named twice in this pipeline",
        "hub.yaml:9: service.pipelines.metrics.receivers[2]: the receiver 'otpl' is not defined under 'receivers'; "
        "did you mean 'otlp'?",
        "hub.yaml:10: service.pipelines.logs.exporters: the setting 'exporters' is required",
        "hub.yaml:10: service.pipelines.logs.receivers[0]: the receiver 'hostmetrics' is not defined under "
        "'receivers'; known: foo, otlp",
        "hub.yaml:11: service.pipelines.metric: expected 'metrics', 'logs' or 'traces', found 'metric'",
        "hub.yaml:12: service.telemetry.traces.sampling_ratio: expected less than or equal to 1, found 3",
        "hub.yaml:12: service.telemetry.logs.level: expected 'debug', 'info', 'warning' or 'error', found 'loud'",
    ]


def test_a_receiver_in_a_pipeline_whose_signal_it_cannot_give(problems_of: Problems) -> None:
    service = "service:\n  pipelines:\n    logs:\n      receivers:\n        - hostmetrics\n      exporters: [store]\n"
    assert problems_of("receivers: {hostmetrics: }\nexporters: {store: }\n", service) == [
        "hub.yaml:7: service.pipelines.logs.receivers[0]: the receiver 'hostmetrics' gives metrics, not logs"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exporters: {store: }\nextensions: {zzz: }\n", "unknown extension 'zzz'; there are none yet"),
        ("exporters: {store: }\nexportes: {}\n", "unknown section 'exportes'; did you mean 'exporters'?"),
        ("exporters: [store]\n", "exporters: expected a mapping, found a list"),
        ("exporters: {store: , store/: }\n", "'store/' is not a name of a component; expected 'type' or 'type/name'"),
        ("exporters: {store: 7}\n", "exporters.store: expected a mapping, found 7"),
        ("exporters: {store: {url: 7}}\n", "exporters.store.url: expected a text, found 7; put it in quotes"),
        ("exporters: {store: !!python/name:os.system }\n", "exporters.store: unknown tag '!!python/name:os.system'"),
        ("exporters: {store: {[a]: 1}}\n", "exporters.store: expected a name as key, found a collection"),
        (
            "exporters:\n  store: {url: a}\n  store: {url: b}\n",
            "exporters.store: written twice; the first is on line 3",
        ),
    ],
)
def test_one_mistake(problems_of: Problems, text: str, message: str) -> None:
    assert any(message in problem for problem in problems_of("receivers: {otlp: }\n" + text))


def test_a_pipeline_must_exist(problems_of: Problems) -> None:
    assert "service.pipelines: the setting 'pipelines' is required" in problems_of(GOOD, "service:\n")[0]
    assert "service.pipelines: empty; expected at least one" in problems_of(GOOD, "service: {pipelines: {}}\n")[0]
    assert "the section 'service' is required" in problems_of(GOOD, "")[0]


def test_an_extension_that_is_named_must_be_defined(problems_of: Problems) -> None:
    service = "service:\n  extensions: [zpages]\n  pipelines: {logs: {receivers: [otlp], exporters: [store]}}\n"
    assert problems_of(GOOD, service) == [
        "hub.yaml:4: service.extensions[0]: "
        "the extension 'zpages' is not defined under 'extensions'; 'extensions' defines none"
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"receivers: [\n", ":2: not valid YAML: "),
        (b"a: 1\n---\nb: 2\n", ":2: not valid YAML: "),
        (b"a: *nowhere\n", ":1: not valid YAML: found undefined alias '…'"),
        (b"a: b\nc: \x00\n", ":2: not valid YAML: the character #x0000 is not allowed"),
        (b"# nothing\n", ": empty; expected the sections"),
        (b"- a\n", ":1: expected a mapping with receivers, exporters and service, found a list"),
        (b"a: b\nc: \xff\n", ":2: not UTF-8 text"),
        (b"a: &a [*a]\n", ":1: an alias that contains itself"),
        (b"[" * 5000, ": nested too deeply"),
        (b"a: " + b"[" * 80 + b"]" * 80, ":1: nested too deeply"),
        (b"#" * (2 << 20), ": larger than 1 MiB; is this a configuration file?"),
        (
            b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
            + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 9)),
            "more than 50,000 values once its aliases are followed",
        ),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_a_file_that_cannot_be_read_as_a_configuration(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "hub.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert len(caught.value.problems) == 1


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file$"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


@pytest.mark.parametrize(
    "store",
    [
        "{dsn: [hunter22]}",
        "{dsn: {hunter22: x}}",
        "{url: 'ftp://me:${env:PASSWORD}@x'}",
        "{url: '${env:FTP}'}",
        "{connections: '${env:PASSWORD}'}",
        "{headers: '${env:PASSWORD}'}",
        "{headers: '${env:MAPPING}', size: '${env:MAPPING}'}",
        "'${env:MAPPING}'",
    ],
)
def test_no_secret_and_no_substituted_value_is_repeated(problems_of: Problems, store: str) -> None:
    variables = {"PASSWORD": "hunter22", "FTP": "ftp://hunter22", "MAPPING": "{hunter22: [hunter22]}"}
    problems = problems_of(f"receivers: {{otlp: }}\nexporters:\n  store: {store}\n", **variables)
    assert problems[0].startswith("hub.yaml:3: exporters.store")
    assert "hunter22" not in "\n".join(problems)


def test_a_substituted_name_in_a_pipeline_is_not_repeated(problems_of: Problems) -> None:
    service = "service: {pipelines: {logs: {receivers: ['${env:NAME}'], exporters: [store]}}}\n"
    assert "'********' is not defined" in problems_of(GOOD, service, NAME="hunter22")[0]
