"""What options of a command say instead of the file is checked as if it stood there, and blamed as what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config, ConfigError, Overrides, Scheme, load, option_for

PIPELINES = "service: {extensions: [], pipelines: {metrics: {receivers: [%s], exporters: [timescale]}}}\n"
STORE = "exporters: {timescale: }\n"


def loaded(folder: Path, text: str, **options: Any) -> Config:
    path = folder / "hub.yaml"
    path.write_text(text)
    return load(path, schemes={"env": Scheme({}.get)}, overrides=Overrides(**options))


def protocols(config: Config, name: str = "otlp") -> Any:
    return config.receivers[name].protocols  # type: ignore[attr-defined]


def test_each_option_changes_its_setting_of_the_embedded_default() -> None:
    options = Overrides(
        otlp_grpc="127.0.0.1:14317", otlp_http="[::1]:14318", front="127.0.0.1:18085", postgres_port=5433
    )
    config = load(None, overrides=options)
    assert protocols(config).grpc.endpoint == "127.0.0.1:14317"
    assert protocols(config).http.endpoint == "[::1]:14318"
    api: Any = config.extensions["api"]
    assert (api.endpoint, api.auth.authenticator) == ("127.0.0.1:18085", "tokens")
    assert config.exporters["timescale"].embedded_port == 5433  # type: ignore[attr-defined]


@pytest.mark.parametrize("body", ["", "{}", "{protocols: }", "{protocols: {grpc: , http: }}"])
def test_the_other_protocol_of_a_receiver_that_says_little_is_still_served(tmp_path: Path, body: str) -> None:
    text = f"receivers: {{otlp: {body}}}\n{STORE}{PIPELINES % 'otlp'}"
    if body == "{protocols: }":
        text = text.replace(body, "{protocols: {http: }}")
    config = loaded(tmp_path, text, otlp_grpc="127.0.0.1:14317")
    assert protocols(config).grpc.endpoint == "127.0.0.1:14317"
    assert protocols(config).http.endpoint == "127.0.0.1:4318"


def test_what_is_wrong_with_a_value_is_said_of_the_option(tmp_path: Path) -> None:
    text = f"receivers: {{otlp: }}\n{STORE}{PIPELINES % 'otlp'}"
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, otlp_grpc="0.0.0.0:4317")
    assert str(caught.value).startswith(
        "--otlp-grpc: receivers.otlp.protocols.grpc: refused: 0.0.0.0:4317 can be reached from other machines"
    )


def test_a_value_goes_before_one_that_cannot_be_had(tmp_path: Path) -> None:
    text = (
        f"receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '${{env:NOT_SET}}'}}}}}}}}\n{STORE}{PIPELINES % 'otlp'}"
    )
    with pytest.raises(ConfigError, match="NOT_SET"):
        loaded(tmp_path, text)
    assert protocols(loaded(tmp_path, text, otlp_grpc="127.0.0.1:1")).grpc.endpoint == "127.0.0.1:1"


def test_a_component_of_another_name_is_meant_where_it_is_the_only_one(tmp_path: Path) -> None:
    text = f"receivers: {{otlp/apps: }}\n{STORE}{PIPELINES % 'otlp/apps'}"
    assert protocols(loaded(tmp_path, text, otlp_http="127.0.0.1:1"), "otlp/apps").http.endpoint == "127.0.0.1:1"
    assert option_for(("receivers", "otlp/apps", "protocols", "http", "endpoint"), ["otlp/apps"]) == "--otlp-http"


def test_where_it_is_not_clear_which_is_meant_nothing_is_guessed(tmp_path: Path) -> None:
    text = f"receivers: {{otlp/a: , otlp/b: }}\n{STORE}{PIPELINES % 'otlp/a, otlp/b'}"
    with pytest.raises(ConfigError, match=r"--otlp-grpc: it sets that of 'otlp' in 'receivers', .* otlp/a, otlp/b"):
        loaded(tmp_path, text, otlp_grpc="127.0.0.1:1")
    assert option_for(("receivers", "otlp/a", "protocols", "grpc", "endpoint"), ["otlp/a", "otlp/b"]) is None


def test_an_option_for_what_the_file_does_not_have_is_an_error(tmp_path: Path) -> None:
    text = f"receivers: {{otlp: }}\n{STORE}{PIPELINES % 'otlp'}"
    with pytest.raises(ConfigError, match=r"--front: it sets that of 'api' in 'extensions', where there is: none"):
        loaded(tmp_path, text, front="127.0.0.1:1")


def test_a_port_of_the_embedded_server_and_another_server_contradict_each_other(tmp_path: Path) -> None:
    text = f"receivers: {{otlp: }}\nexporters: {{timescale: {{dsn: postgresql://db}}}}\n{PIPELINES % 'otlp'}"
    with pytest.raises(
        ConfigError, match=r"--postgres-port: .*the embedded PostgreSQL's, and dsn names another server"
    ):
        loaded(tmp_path, text, postgres_port=5433)


@pytest.mark.parametrize("broken", ["receivers: [otlp]", "receivers: {otlp: [grpc]}", "receivers: 4"])
def test_a_file_that_is_wrong_there_is_told_so_and_no_more(tmp_path: Path, broken: str) -> None:
    with pytest.raises(ConfigError):
        loaded(tmp_path, f"{broken}\n{STORE}{PIPELINES % 'otlp'}", otlp_grpc="127.0.0.1:1")


def test_a_file_that_is_read_again_is_still_not_asked_for_what_an_option_said(tmp_path: Path) -> None:
    """As a running hub reads it, for secrets that were rotated."""
    config = loaded(tmp_path, f"receivers: {{otlp: }}\n{STORE}{PIPELINES % 'otlp'}", otlp_grpc="127.0.0.1:14317")
    now = "{protocols: {grpc: {endpoint: '${env:OBSHUB_NOT_SET}'}}}"
    (tmp_path / "hub.yaml").write_text(f"receivers: {{otlp: {now}}}\n{STORE}{PIPELINES % 'otlp'}")
    assert protocols(config.read_again()).grpc.endpoint == "127.0.0.1:14317"
