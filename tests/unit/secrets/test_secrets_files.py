"""Secrets in files: ``${file:/path}``, and systemd's ``${cred:NAME}``."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import ConfigError, load, show
from gateway.secrets.files import read_credential, read_file

CONFIG = """
receivers: {otlp: }
exporters: {timescale: {dsn: "SECRET"}}
service: {pipelines: {logs: {receivers: [otlp], exporters: [timescale]}}}
"""


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which systemd hands over the credentials of a service."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


def written(folder: Path, dsn: str) -> Path:
    path = folder / "hub.yaml"
    path.write_text(CONFIG.replace("SECRET", dsn))
    return path


def test_a_configuration_takes_credentials_and_files_and_shows_neither(credentials: Path, tmp_path: Path) -> None:
    (credentials / "password").write_text("made-up-1\n")
    (tmp_path / "host").write_text("db.example.com")
    path = written(tmp_path, f"postgresql://hub:${{cred:password}}@${{file:{tmp_path}/host}}/telemetry")
    config = load(path)
    dsn = config.exporters["timescale"].dsn.get_secret_value()  # type: ignore[attr-defined]
    assert dsn == "postgresql://hub:made-up-1@db.example.com/telemetry"
    assert "made-up-1" not in show(config)


def test_line_breaks_at_the_end_are_an_editors_and_other_space_is_the_secrets(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b" a\nb \r\n\n")
    assert read_file(str(tmp_path / "secret")) == " a\nb "


def test_a_default_stands_in_for_a_file_that_is_not_there(credentials: Path, tmp_path: Path) -> None:
    for written_as in (f"${{file:{tmp_path}/none:-postgresql://a/b}}", "${cred:none:-postgresql://a/b}"):
        config = load(written(tmp_path, written_as))
        assert config.exporters["timescale"].dsn.get_secret_value() == "postgresql://a/b"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("${cred:dsn}", "systemd handed over no credential dsn; add LoadCredential=dsn:/path/to/file to the unit"),
        ("${cred:../dsn}", "expected the name of a credential, without '/'"),
        ("${file:/nowhere/dsn}", "the file /nowhere/dsn does not exist; make it, or give a default"),
        ("${file:dsn}", "expected a path that begins with '/'"),
        ("${file:/}", "/ cannot be read: Is a directory"),
        ("${file:/dev/zero}", "/dev/zero has more than 1048576 bytes"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(
    credentials: Path, tmp_path: Path, reference: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, reference))
    assert f"hub.yaml:3: exporters.timescale.dsn: {message}" in str(caught.value).replace(f"{reference}: ", "")


def test_bytes_that_are_no_text_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xffmade-up-2")
    with pytest.raises(LookupError, match="is not text in UTF-8") as caught:
        read_file(str(tmp_path / "key"))
    assert "made-up-2" not in str(caught.value)


def test_outside_of_a_unit_with_credentials_it_says_what_the_unit_needs() -> None:
    with pytest.raises(LookupError, match=r"\$CREDENTIALS_DIRECTORY is not set.* LoadCredential=dsn:"):
        read_credential("dsn", {})
