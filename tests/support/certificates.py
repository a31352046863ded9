"""Certificates for tests, made by the openssl command."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, in files."""

    cert: Path
    key: Path

    def copy_to(self, other: Certificate) -> None:
        """Put this certificate in the place of another one, each file replaced as a whole."""
        for mine, theirs in ((self.key, other.key), (self.cert, other.cert)):
            fresh = theirs.with_suffix(".fresh")
            shutil.copy(mine, fresh)
            fresh.replace(theirs)

    @property
    def der(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert(self.cert.read_text())


class Authority:
    """A CA that signs certificates for this machine."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._own = make(folder, name)

    @property
    def file(self) -> Path:
        return self._own.cert

    @property
    def pem(self) -> bytes:
        return self._own.cert.read_bytes()

    def issue(self, name: str) -> Certificate:
        """Sign a certificate for localhost and 127.0.0.1, for servers and for clients."""
        return make(self._folder, name, self._own)


def make(folder: Path, name: str, ca: Certificate | None = None) -> Certificate:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl command to make certificates with")
    made = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(made.key), "-out", str(made.cert), "-subj", f"/CN={name}", "-days", "2"]
    if ca is not None:
        command += ["-CA", str(ca.cert), "-CAkey", str(ca.key), "-addext", "basicConstraints=critical,CA:FALSE"]
        command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return made
