from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.components import Registry
from gateway.config import Config, Scheme, load, show

Loader = Callable[..., Config]
Problems = Callable[..., list[str]]


def store(text: str) -> str:
    return f"receivers: {{otlp: }}\nexporters:\n  store:\n    {text}\n"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${env:HOST}", "nas"),
        ("${HOST}", "nas"),
        ("http://${env:HOST}:${env:PORT}/", "http://nas:80/"),
        ("${env:NONE:-other}", "other"),
        ("${env:EMPTY:-other}", "other"),
        ("a${env:NONE:-}b", "ab"),
        ("${NONE:-http://a:-b}", "http://a:-b"),
        ("$${env:HOST}", "${env:HOST}"),
        ("a$$b", "a$b"),
        ("$HOST", "$HOST"),
        ("${env:NESTED}", "${env:HOST}"),
        ("${env:PORT}", "80"),
        ("${env:COMMENT}", "a # b"),
        ("${env:COLON}", "a: b: c"),
    ],
)
def test_text_is_substituted(load_text: Loader, written: str, value: str) -> None:
    config = load_text(
        store(f'url: "{written}"'),
        HOST="nas", PORT="80", EMPTY="", NESTED="${env:HOST}", COMMENT="a # b", COLON="a: b: c",
    )  # fmt: skip
    assert config.exporters["store"].url == value  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ("", None),
        ("[a, 1]", ["a", 1]),
        ("{a: {b: 2}}", {"a": {"b": 2}}),
        ("plain", "plain"),
        ("'quoted'", "'quoted'"),
        ("a: [", "a: ["),
        ("12:30:45", "12:30:45"),
        ("2026-01-01", "2026-01-01"),
        ("!!python/name:os.system", "!!python/name:os.system"),
        ("&a [*a]", "&a [*a]"),
    ],
)
def test_a_substitution_that_stands_alone_has_the_type_that_yaml_gives_it(
    load_text: Loader, text: str, value: Any
) -> None:
    config = load_text(store("anything: ${env:VALUE}"), VALUE=text)
    assert config.exporters["store"].anything == value  # type: ignore[attr-defined]


def test_where_text_is_wanted_it_stays_the_text_it_was(load_text: Loader) -> None:
    config = load_text(
        store("dsn: ${env:A}\n    headers: {x: '${env:B}'}\n    connections: ${env:C}"), A="0123", B="1e3", C="7"
    )
    exporter: Any = config.exporters["store"]
    assert exporter.dsn.get_secret_value() == "0123"
    assert exporter.headers == {"x": "1e3"}
    assert exporter.connections == 7


def test_part_of_a_text_is_never_typed(load_text: Loader) -> None:
    config = load_text(store("anything: ${env:A}0"), A="1")
    assert config.exporters["store"].anything == "10"  # type: ignore[attr-defined]


def test_keys_are_not_substituted(load_text: Loader) -> None:
    config = load_text(store("headers: {'${env:A}': b}"), A="x")
    assert config.exporters["store"].headers == {"${env:A}": "b"}  # type: ignore[attr-defined]


def test_a_whole_section_may_come_from_a_variable(load_text: Loader) -> None:
    config = load_text("receivers: {otlp: }\nexporters: ${env:EXPORTERS}\n", EXPORTERS="{store: {connections: 3}}")
    assert config.exporters["store"].connections == 3  # type: ignore[attr-defined]


def test_an_unset_variable_is_named_with_its_line_and_nothing_else_is_said_of_the_setting(
    problems_of: Problems,
) -> None:
    assert problems_of(store("connections: ${env:NONE}")) == [
        "hub.yaml:4: exporters.store.connections: the environment variable NONE is not set; set it, or give a default: "
        "'${env:NONE:-default}'"
    ]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("${vault:a}", "${vault:a}: unknown source 'vault'; known: env"),
        ("${env:}", "'${env:}' names nothing"),
        ("${env:A", "'${' without a plain ending"),
        ("${env:A:-${env:B}}", "substitutions cannot be nested"),
    ],
)
def test_a_substitution_that_is_none(problems_of: Problems, written: str, message: str) -> None:
    assert message in problems_of(store(f"url: '{written}'"))[0]


def test_a_further_scheme_is_one_entry_and_a_secret_one_is_masked_when_shown(
    tmp_path: Path, registry: Registry
) -> None:
    path = tmp_path / "hub.yaml"
    service = "service: {pipelines: {logs: {receivers: [otlp], exporters: [store]}}}\n"
    path.write_text(store("url: ${bao:kv/hub#url}") + service)
    config = load(path, registry=registry, schemes={"bao": Scheme({"kv/hub#url": "found"}.get, secret=True)})
    assert config.exporters["store"].url == "found"  # type: ignore[attr-defined]
    assert "url: '********'" in show(config)


def test_a_scheme_that_cannot_tell_says_why(tmp_path: Path, registry: Registry) -> None:
    def sealed(key: str) -> str:
        raise LookupError("OpenBao is sealed")

    path = tmp_path / "hub.yaml"
    path.write_text(
        store("url: ${bao:kv/hub#url}") + "service: {pipelines: {logs: {receivers: [otlp], exporters: [store]}}}\n"
    )
    with pytest.raises(Exception, match=r"hub\.yaml:4: exporters\.store\.url: \$\{bao:kv/hub#url\}: OpenBao is sealed"):
        load(path, registry=registry, schemes={"bao": Scheme(sealed)})
