"""The certificates of a listener, read again when their files change: that is looked at when a client connects."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from gateway.files.file_changes import FileChanges
from gateway.net.listeners import TlsSettings

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class CertificateError(OSError):
    """The certificate files cannot be used. The message says which, why, and the setting that names it."""


@dataclass(slots=True, frozen=True)
class Loaded:
    """What the files hold: in PEM, and as a context for `ssl`. They fit together."""

    certificate: bytes = field(repr=False)
    key: bytes = field(repr=False)
    client_ca: bytes | None = field(repr=False)
    context: ssl.SSLContext = field(repr=False)


class Certificates:
    """Certificate, key and client CA of one listener; `current` is safe in any thread.

    Raises `CertificateError` when they cannot be loaded to begin with. Later, files that cannot be loaded are logged
    and what was loaded before stays in use. ``setting`` is where their settings stand, for messages; ``alpn`` names the
    protocol that is spoken inside.
    """

    def __init__(
        self, setting: str, tls: TlsSettings, clock: Callable[[], float] = time.monotonic, *, alpn: str = "http/1.1"
    ) -> None:
        self._setting = setting
        self._tls = tls
        self._alpn = alpn
        self._lock = threading.Lock()
        self._changes = FileChanges(
            (tls.cert_file, tls.key_file, tls.client_ca_file), tls.reload_interval.total_seconds(), clock
        )
        self._loaded = self._load()

    def current(self) -> Loaded:
        """Return what is to be used for a connection that begins now."""
        with self._lock:
            if self._changes.seen():
                self._reload()
            return self._loaded

    def _reload(self) -> None:
        try:
            self._loaded = self._load()
        except CertificateError as error:
            _log.error("changed certificate files are not used; those before stay in use", reason=str(error))
        else:
            _log.info("certificate files have changed and are in use", setting=self._setting)

    def _load(self) -> Loaded:
        tls = self._tls
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[tls.min_version]
        context.set_alpn_protocols([self._alpn])
        certificate = self._read("cert_file", tls.cert_file)
        key = self._read("key_file", tls.key_file)
        try:
            # Without a function that gives the password of an encrypted key, OpenSSL asks on the terminal.
            context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
        except (ssl.SSLError, _EncryptedKeyError) as error:
            raise CertificateError(
                f"{tls.cert_file} and {tls.key_file} are not a certificate and its private key in PEM: "
                f"{_why(error)} (settings {self._setting}.cert_file and key_file)"
            ) from None
        client_ca = None
        if tls.client_ca_file is not None:
            client_ca = self._read("client_ca_file", tls.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(tls.client_ca_file)
            except ssl.SSLError as error:
                raise CertificateError(
                    f"{tls.client_ca_file} holds no certificates in PEM: {_why(error)} "
                    f"(setting {self._setting}.client_ca_file)"
                ) from None
        return Loaded(certificate, key, client_ca, context)

    def _read(self, name: str, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise CertificateError(
                f"{path} cannot be read: {error.strerror} (setting {self._setting}.{name})"
            ) from None


class _EncryptedKeyError(Exception):
    def __str__(self) -> str:
        return "the key is encrypted"


def _no_password() -> str:
    raise _EncryptedKeyError


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else str(error)
