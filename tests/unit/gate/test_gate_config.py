"""What the gate may be told: nothing that exposes more than one webhook of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from gateway.config import ConfigError, load
from gateway.extensions.gate.config import GateConfig
from tests.integration.cli.processes import config_text


def written(folder: Path, extensions: dict[str, object], used: list[str]) -> Path:
    config = yaml.safe_load(config_text())
    config["extensions"] = extensions
    config["service"]["extensions"] = used
    path = folder / "hub.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_by_default_github_reaches_its_webhook_on_the_https_port() -> None:
    config = GateConfig()
    assert (config.mode, config.https_port, config.path) == ("funnel", 443, "/api/v1/webhooks/github")


@pytest.mark.parametrize(
    "path", ["/", "/api/v1", "/api/v1/webhooks/", "/api/v1/webhooks/../status", "/api/v1/webhooks/a/b", "webhooks"]
)
def test_no_other_path_can_be_exposed(path: str) -> None:
    with pytest.raises(ValidationError, match="the path of one webhook"):
        GateConfig.model_validate({"path": path})


@pytest.mark.parametrize(
    "target",
    [
        "8085",
        "http://127.0.0.1",
        "http://192.168.1.9:8085",
        "http://hub.example.com:8085",
        "http://127.0.0.1:8085/api",
        "file:///etc",
        "unix:/run/x",
        "--help",
    ],
)
def test_the_target_is_the_front_of_this_machine(target: str) -> None:
    with pytest.raises(ValidationError):
        GateConfig.model_validate({"target": target})


def test_funnel_has_three_ports_and_serve_has_all() -> None:
    with pytest.raises(ValidationError, match="443, 8443 and 10000, not 8444"):
        GateConfig.model_validate({"https_port": 8444})
    assert GateConfig.model_validate({"https_port": 8444, "mode": "serve"}).https_port == 8444


def test_it_is_defined_among_the_extensions_and_run_by_its_own_command(tmp_path: Path) -> None:
    config = load(written(tmp_path, {"gate": {"interval": "10s"}}, []))
    assert isinstance(config.extensions["gate"], GateConfig)
    assert not config.warnings
    with pytest.raises(ConfigError, match="the extension 'gate' is run by `obs-hub gate run`, not by the hub"):
        load(written(tmp_path, {"gate": {}}, ["gate"]))
