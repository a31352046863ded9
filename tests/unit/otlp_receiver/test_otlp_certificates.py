"""Certificate files: what is wrong with them is said, and what was right stays in use."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.net.certificates import CertificateError, Certificates
from gateway.net.listeners import TlsSettings
from tests.support.certificates import Authority, Certificate


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


@pytest.fixture
def server(ca: Authority) -> Certificate:
    return ca.issue("server")


def settings(server: Certificate, **more: Any) -> TlsSettings:
    return TlsSettings(cert_file=server.cert, key_file=server.key, **more)


def test_files_are_looked_at_once_an_interval_and_only_when_asked(server: Certificate, ca: Authority) -> None:
    clock = Clock()
    certificates = Certificates("setting.tls", settings(server), clock)
    before = certificates.current()
    ca.issue("other").copy_to(server)
    clock.now = 9.9
    assert certificates.current() is before
    clock.now = 10.0
    assert certificates.current().certificate == server.cert.read_bytes() != before.certificate


def test_a_rotation_that_is_half_done_waits_for_its_other_half(server: Certificate, ca: Authority) -> None:
    clock = Clock()
    certificates = Certificates("setting.tls", settings(server), clock)
    before = certificates.current()
    other = ca.issue("other")
    server.cert.write_bytes(other.cert.read_bytes())
    with capture_logs() as logs:
        for _ in range(3):
            clock.now += 10
            assert certificates.current() is before
    assert [entry["log_level"] for entry in logs] == ["error"]
    server.key.write_bytes(other.key.read_bytes())
    clock.now += 10
    assert certificates.current().certificate == other.cert.read_bytes()


def test_files_that_may_not_be_read_yet_are_used_when_they_may(
    server: Certificate, ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path.read_bytes

    def as_a_user(path: Path) -> bytes:  # root may read everything
        if not path.stat().st_mode & 0o400:
            raise PermissionError(errno.EACCES, "Permission denied")
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", as_a_user)
    clock = Clock()
    certificates = Certificates("setting.tls", settings(server), clock)
    before = certificates.current()
    ca.issue("other").copy_to(server)
    server.key.chmod(0o000)
    clock.now += 10
    assert certificates.current() is before
    server.key.chmod(0o600)
    clock.now += 10
    assert certificates.current() is not before


def test_files_that_vanish_are_as_good_as_damaged(server: Certificate) -> None:
    clock = Clock()
    certificates = Certificates("setting.tls", settings(server), clock)
    before = certificates.current()
    server.cert.unlink()
    clock.now += 10
    assert certificates.current() is before


@pytest.mark.parametrize("which", ["cert_file", "key_file", "client_ca_file"])
@pytest.mark.parametrize("damage", [None, b"", b"no PEM"])
def test_what_is_wrong_at_the_start_is_said_with_file_and_setting(
    server: Certificate, ca: Authority, tmp_path: Path, which: str, damage: bytes | None
) -> None:
    bad = tmp_path / "bad.pem"
    if damage is not None:
        bad.write_bytes(damage)
    tls = settings(server, client_ca_file=ca.file).model_copy(update={which: bad})
    with pytest.raises(CertificateError) as caught:
        Certificates("receivers.otlp.protocols.grpc.tls", tls)
    assert str(bad) in str(caught.value)
    assert "receivers.otlp.protocols.grpc.tls" in str(caught.value)
    assert which in str(caught.value)


def test_a_key_of_another_certificate_is_said(server: Certificate, ca: Authority) -> None:
    tls = settings(server).model_copy(update={"key_file": ca.issue("other").key})
    with pytest.raises(CertificateError, match="key values mismatch"):
        Certificates("setting.tls", tls)


def test_an_encrypted_key_is_said_and_nobody_is_asked_for_a_password(server: Certificate, tmp_path: Path) -> None:
    encrypted = tmp_path / "encrypted.key"
    command = ["openssl", "ec", "-in", str(server.key), "-aes128", "-passout", "pass:password", "-out", str(encrypted)]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(CertificateError, match="the key is encrypted"):
        Certificates("setting.tls", settings(server).model_copy(update={"key_file": encrypted}))


def test_keys_do_not_show(server: Certificate) -> None:
    assert "PRIVATE" not in repr(Certificates("setting.tls", settings(server)).current())
