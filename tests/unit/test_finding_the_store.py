"""Commands find the store as it is reached now, and nothing that is written down or shown holds a secret."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from gateway.base.redaction import without_credentials
from gateway.cli.options import find_store
from gateway.config import load
from gateway.datadir import DataDir
from gateway.store.postgres.dsn import secrets_of, shown
from gateway.supervisor import description

CONFIG = """\
receivers: {{otlp: }}
exporters: {{timescale: {{dsn: "{dsn}"}}}}
service: {{pipelines: {{metrics: {{receivers: [otlp], exporters: [timescale]}}}}}}
"""


def configured(tmp_path: Path, dsn: str) -> Path:
    path = tmp_path / "hub.yaml"
    path.write_text(CONFIG.format(dsn=dsn))
    return path


def test_a_rotated_password_is_the_one_that_commands_use(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("before")
    path = configured(tmp_path, f"postgresql://hub:${{file:{secret}}}@db/telemetry")
    with DataDir(tmp_path / "data").locked() as data_dir:
        config = load(path)
        store = config.exporters["timescale"].dsn.get_secret_value()  # type: ignore[attr-defined]
        data_dir.record(description(config, store, {}))
        assert "before" not in data_dir.state_file.read_text()
        for password in ("before", "after"):
            secret.write_text(password)
            for named in (None, path):
                found = find_store(None, named, data_dir.path)
                assert found is not None
                assert found.dsn == f"postgresql://hub:{password}@db/telemetry"


def test_a_configuration_that_cannot_be_read_here_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_PASSWORD", "secret")
    path = configured(tmp_path, "postgresql://hub:${env:HUB_PASSWORD}@db/telemetry")
    with DataDir(tmp_path / "data").locked() as data_dir:
        data_dir.record(description(load(path), "postgresql://hub:secret@db/telemetry", {}))
        monkeypatch.delenv("HUB_PASSWORD")
        with pytest.raises(click.ClickException) as found:
            find_store(None, None, data_dir.path)
    assert "HUB_PASSWORD" in found.value.message
    assert "or give --dsn" in found.value.message


def test_a_store_without_a_secret_is_found_whatever_the_configuration_needs(tmp_path: Path) -> None:
    path = configured(tmp_path, "postgresql://hub@db/telemetry")
    with DataDir(tmp_path / "data").locked() as data_dir:
        data_dir.record(description(load(path), "postgresql://hub@db/telemetry", {}))
        path.write_text("not a configuration")
        found = find_store(None, None, data_dir.path)
    assert found is not None
    assert found.dsn == "postgresql://hub@db/telemetry"


def test_nobody_is_led_to_a_configuration_that_others_may_write(tmp_path: Path) -> None:
    path = configured(tmp_path, "postgresql://hub:secret@db/telemetry")
    with DataDir(tmp_path / "data").locked() as data_dir:
        data_dir.record(description(load(path), "postgresql://hub:secret@db/telemetry", {}))
        path.chmod(0o666)
        with pytest.raises(click.ClickException, match="may be written by others"):
            find_store(None, None, data_dir.path)


def test_the_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    with DataDir(tmp_path).locked() as data_dir:
        data_dir.state_file.write_text(json.dumps({"pid": 1, "dsn": "host=/socket", "endpoints": {}}))
        found = find_store(None, None, tmp_path)
    assert found is not None
    assert found.dsn == "host=/socket"


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://hub:s3cret@db/telemetry",
        "postgresql://db/telemetry?user=hub&password=s3cret",
        "postgresql://hub@db/telemetry?sslkey=/k&sslpassword=s3cret",
        "host=db password='s3cret' sslpassword = 's3\\'cret' user=hub",
        "postgresql://hub:s3cret@a,b/telemetry",
        "postgresql://hub:s3/cret@db:x/telemetry?a",
        "host=db password='s3cret",
    ],
)
def test_no_secret_of_a_connection_string_is_shown(dsn: str) -> None:
    assert "cret" not in shown(dsn)


def test_what_is_no_secret_is_shown_as_it_is() -> None:
    dsn = "postgresql://hub@db/telemetry?sslkey=/etc/hub.key&passfile=/etc/pgpass"
    assert shown(dsn) == dsn
    assert not secrets_of(dsn)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:s3cret@example.com/repository.git",
        "https://s3cret@example.com/repository.git",
        "https://user:s3/cret@example.com/repository.git",
        "https://user:s3@cret@example.com/repository.git",
        "https://user:s3?cret#x@example.com/repository.git",
        "https:/user:s3cret@example.com/repository.git",
        "HTTPS://user:s3cret@[::1]:8443/repository.git",
        "ssh://user:s3cret@example.com:22/repository.git",
        "https://example.com/repository.git?access_token=s3cret&x=1",
        "https://example.com/repository.git?private-token=s3cret",
    ],
)
def test_no_credential_of_a_url_is_shown_in_a_text(url: str) -> None:
    shown = without_credentials(f"fatal: unable to access '{url}': it is away\nhint: look at {url}")
    assert "cret" not in shown
    assert shown.count("example.com") + shown.count("[::1]") == 2
    assert "it is away" in shown


def test_a_text_without_credentials_stays_as_it_is() -> None:
    text = "fatal: 'https://example.com:8443/a/b.git?x=1' and git@example.com:a/b.git are not repositories: a@b"
    assert without_credentials(text) == text
