"""Commands that have none of the hub's secrets, and need none."""

from pathlib import Path

import click
import pytest

from gateway.cli import page
from gateway.cli.options import store_dsn
from gateway.config import ConfigError, load
from gateway.extensions.api.config import ApiConfig

TEXT = """
receivers: {otlp: {protocols: {grpc: }}}
exporters:
  timescale: {dsn: "postgresql://hub:%s@db.example.com/telemetry"}
  loki: {endpoint: "%s"}
extensions:
  api: {endpoint: "127.0.0.1:8085"}
  gitops:
    webhook: {secrets: ["${cred:hub_webhook}"]}
    repositories: {home: {path: /srv/home}}
service:
  extensions: [api, gitops]
  pipelines: {logs: {receivers: [otlp], exporters: [timescale, loki]}}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "credentials").mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    path = tmp_path / "hub.yaml"
    path.write_text(TEXT % ("${cred:hub_db}", "${cred:hub_loki}"))
    return path


def test_what_is_lacking_is_noted_and_the_rest_is_there(file: Path) -> None:
    with pytest.raises(ConfigError, match="hub_loki"):
        load(file)
    config = load(file, lenient=True)
    assert {problem.place[-1] for problem in config.lacking} == {"dsn", "endpoint", 0}
    assert isinstance(config.extensions["api"], ApiConfig)
    assert "home" in config.extensions["gitops"].model_dump()["repositories"]
    assert "loki" not in config.exporters
    assert set(config.used_exporters) <= {"timescale"}


def test_other_mistakes_are_still_mistakes(file: Path) -> None:
    file.write_text(file.read_text().replace("extensions: [api, gitops]", "extensions: [api, nowhere]"))
    with pytest.raises(ConfigError, match="'nowhere' is not defined"):
        load(file, lenient=True)


def test_a_service_that_is_not_valid_without_it_is_said_to_lack_it(file: Path) -> None:
    file.write_text(
        file.read_text().replace("  pipelines:", '  telemetry: {endpoint: "${env:NOBODY_SET_THIS}"}\n  pipelines:')
    )
    with pytest.raises(ConfigError, match="NOBODY_SET_THIS"):
        load(file, lenient=True)


def test_a_front_that_was_left_out_is_no_front(file: Path) -> None:
    file.write_text(file.read_text().replace("127.0.0.1:8085", "${env:NOBODY_SET_THIS}"))
    with pytest.raises(click.ClickException, match="no extension of type api"):
        page._front(file, file.parent / "no-hub")


def test_a_store_whose_secret_is_lacking_is_told_and_no_other_secret_is_needed_for_it(file: Path) -> None:
    nowhere = file.parent / "no-hub"
    with pytest.raises(click.ClickException, match="hub_db"):
        store_dsn(None, file, nowhere)
    (file.parent / "credentials/hub_db").write_text("made-up")
    assert store_dsn(None, file, nowhere) == "postgresql://hub:made-up@db.example.com/telemetry"
