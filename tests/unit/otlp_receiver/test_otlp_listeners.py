"""Who may reach a listener is settled before it listens."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.config import Config, ConfigError, load, show
from gateway.net.listeners import is_loopback
from receivers.otlp.config import OtlpReceiverConfig

CONFIG = """
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: {endpoint}
{settings}
exporters: {{timescale: }}
{more}
service:
  extensions: [{running}]
  pipelines: {{logs: {{receivers: [otlp], exporters: [timescale]}}}}
"""


def loaded(tmp_path: Path, endpoint: str, settings: str = "", more: str = "", running: str = "") -> Config:
    file = tmp_path / "hub.yaml"
    indented = textwrap.indent(settings, 8 * " ")
    file.write_text(CONFIG.format(endpoint=endpoint, settings=indented, more=more, running=running))
    return load(file)


@pytest.mark.parametrize(
    ("endpoint", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.5.6.7:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("[::ffff:127.0.0.1]:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        (":1", False),
        ("192.0.2.1:1", False),
        ("[::ffff:192.0.2.1]:1", False),
        ("127.1:1", False),
        ("0:1", False),
        ("hub.example.com:1", False),
        ("localhost.example.com:1", False),
    ],
)
def test_loopback_is_what_only_this_machine_can_reach(endpoint: str, loopback: bool) -> None:
    assert is_loopback(endpoint) is loopback


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_strangers_are_not_let_in_by_accident(protocol: str) -> None:
    with pytest.raises(ValidationError, match="nobody is asked who they are"):
        OtlpReceiverConfig.model_validate({"protocols": {protocol: {"endpoint": "0.0.0.0:0"}}})


def test_the_refusal_has_a_line_and_names_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, "0.0.0.0:4317")
    (line,) = str(caught.value).splitlines()
    assert "hub.yaml:5: receivers.otlp.protocols.grpc: refused: 0.0.0.0:4317 can be reached" in line
    for way_out in ("127.0.0.1", "auth: {authenticator: tokens}", "client_ca_file", "insecure: true"):
        assert way_out in line


@pytest.mark.parametrize(
    ("settings", "more", "running"),
    [
        ("insecure: true", "", ""),
        ("auth: {authenticator: tokens}", "extensions: {tokens: }", "tokens"),
        ("tls: {cert_file: c, key_file: k, client_ca_file: a}", "", ""),
    ],
)
def test_each_way_out_is_one(tmp_path: Path, settings: str, more: str, running: str) -> None:
    assert loaded(tmp_path, "0.0.0.0:4317", settings, more, running).warnings == ()


def test_encryption_alone_does_not_say_who_is_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nobody is asked"):
        loaded(tmp_path, "0.0.0.0:4317", "tls: {cert_file: c, key_file: k}")


@pytest.mark.parametrize(("more", "running"), [("", ""), ("extensions: {tokens: }", "")])
def test_an_authenticator_that_does_not_run_is_an_error(tmp_path: Path, more: str, running: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, "127.0.0.1:4317", "auth: {authenticator: tokens}", more, running)
    assert "hub.yaml:7: receivers.otlp.protocols.grpc.auth.authenticator: " in str(caught.value)
    assert "the authenticator 'tokens' is not named in service.extensions" in str(caught.value)


def test_an_extension_that_does_not_run_is_a_warning(tmp_path: Path) -> None:
    (warning,) = loaded(tmp_path, "127.0.0.1:4317", more="extensions: {tokens: }").warnings
    assert "the extension 'tokens' is not in service.extensions and will not run" in str(warning)


def test_extensions_are_shown(tmp_path: Path) -> None:
    config = loaded(tmp_path, "127.0.0.1:4317", more="extensions: {tokens: {file: /etc/t.json}}", running="tokens")
    assert "file: /etc/t.json" in show(config)
