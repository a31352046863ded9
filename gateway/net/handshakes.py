"""TLS handshakes of a listener. One that fails is told to the client, by an alert, and to whoever reads the log."""

from __future__ import annotations

import asyncio
import ssl
from asyncio import sslproto
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import structlog

from gateway.base.rate_limited_log import LogRateLimit
from gateway.net.certificates import Certificates
from gateway.net.listeners import TlsSettings

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SECONDS = 20.0
"""How long a handshake may take."""

_LAST_WORDS_SECONDS = 2.0
"""How long a client whose handshake failed has to take the alert: closed at once, what it still sends would be answered
by a reset, which takes the alert away from it."""

_ENOUGH = 8
"""Bytes that tell what a client speaks."""

_METHODS = (b"POST ", b"GET ", b"HEAD ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ")


def begins_tls(first: bytes) -> bool:
    """Tell whether what a client sent first is a TLS handshake (RFC 8446, 5.1: type 22, version 3.x)."""
    return first.startswith(b"\x16\x03")


@dataclass(slots=True, frozen=True)
class _Failure:
    """Why a handshake failed, in words that begin with the client; and what somebody can do about it."""

    reason: str
    advice: str


class Handshakes:
    """The handshakes of one listener. ``setting`` is where its settings stand; ``refused`` counts, as that of
    `ConnectionLimit`.

    Each reason is logged once a minute: strangers who look for open ports do not hide the client that somebody misses.
    """

    def __init__(self, setting: str, tls: TlsSettings | None, refused: Callable[[str, str], None]) -> None:
        self._setting = setting
        self._tls = tls
        self._refused = refused
        self._warnings: dict[str, LogRateLimit] = {}

    def wrap(self, protocol: asyncio.Protocol, certificates: Certificates) -> asyncio.BaseProtocol:
        """Put TLS below the protocol of a connection that was just taken.

        Its ``connection_made`` is called when the handshake is done. Each connection has the certificates of the moment
        in a context of their own: one in use could be given a new certificate, but would go on trusting a client CA
        that was taken away, and resuming the sessions that CA had let in.
        """
        return _TlsProtocol(self, protocol, certificates.current().context)

    def failed(self, peer: str, error: BaseException | type[BaseException], first: bytes) -> None:
        """Note that a client's handshake failed. ``first`` is what it began with."""
        if not first and not isinstance(error, ssl.SSLError | TimeoutError):
            return  # somebody looked whether the port is open
        assert self._tls is not None
        self._warn(peer, "TLS handshakes fail", _explain(error, first, self._tls))

    def unexpected(self, peer: str) -> None:
        """Note that a client began with TLS where there is none."""
        advice = f"use http:// in its endpoint, or set {self._setting}.tls"
        self._warn(peer, "TLS handshakes fail", _Failure("the client speaks TLS and this port does not", advice))

    def _warn(self, peer: str, event: str, why: _Failure) -> None:
        self._refused(self._setting, "tls")
        if failed := self._warnings.setdefault(why.reason, LogRateLimit()).count():
            _log.warning(
                event, listener=self._setting, peer=peer, reason=why.reason, what_to_do=why.advice, failed=failed
            )


def peer_of(transport: asyncio.BaseTransport) -> str:
    """The address that a connection comes from."""
    return str((transport.get_extra_info("peername") or ("",))[0])


class _TlsProtocol(sslproto.SSLProtocol):
    """asyncio's TLS, which would close a connection whose handshake fails without the alert, and say nothing of it.

    What is overridden is private to asyncio and has been alike since Python 3.11;
    ``tests/integration/test_handshakes.py`` tells when it no longer is.
    """

    def __init__(self, handshakes: Handshakes, protocol: asyncio.Protocol, context: ssl.SSLContext) -> None:
        super().__init__(
            asyncio.get_running_loop(),
            protocol,
            context,
            waiter=None,  # type: ignore[arg-type]
            server_side=True,
            ssl_handshake_timeout=cast("int", _SECONDS),
        )
        self._handshakes = handshakes
        self._first = b""
        self._shaking = True

    def get_buffer(self, n: int) -> memoryview:
        self._buffer = super().get_buffer(n)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._shaking and len(self._first) < _ENOUGH:
            self._first += bytes(self._buffer[: min(nbytes, _ENOUGH)])
        super().buffer_updated(nbytes)

    def _on_handshake_complete(self, handshake_exc: BaseException | None) -> None:
        self._shaking = False
        if handshake_exc is None:
            super()._on_handshake_complete(None)
        else:
            self._give_up(handshake_exc)

    def _check_handshake_timeout(self) -> None:
        if self._shaking:
            self._give_up(TimeoutError())

    def _give_up(self, error: BaseException | type[BaseException]) -> None:
        transport = cast("asyncio.Transport", self._transport)
        self._handshakes.failed(peer_of(transport), error, self._first)
        if plain := _in_plain_text(self._first):
            transport.write(plain)
        else:
            self._process_outgoing()  # type: ignore[attr-defined]
        transport.set_protocol(_LastWords(transport))
        self.connection_lost(None)


class _LastWords(asyncio.Protocol):
    """Reads on without listening until the client has taken what was last said to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.write_eof()
        self._end = asyncio.get_running_loop().call_later(_LAST_WORDS_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.cancel()


def _in_plain_text(first: bytes) -> bytes:
    """What is said to a client of HTTP without TLS; nothing to others, who have the alert.

    503, as clients of OTLP keep what they could not send only if an answer is one of those that are tried again. gRPC
    clients connect again at once, without a pause, where the answer is HTTP/2.
    """
    if not first.startswith(_METHODS):
        return b""
    body = b"this port speaks TLS: use https://, not http://\n"
    head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    return b"%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body)


_OUR_CERTIFICATE = {
    "UNKNOWN_CA": "unknown CA",
    "BAD_CERTIFICATE": "bad certificate",
    "CERTIFICATE_UNKNOWN": "certificate unknown",
    "CERTIFICATE_EXPIRED": "certificate expired",
    "CERTIFICATE_REVOKED": "certificate revoked",
    "UNSUPPORTED_CERTIFICATE": "unsupported certificate",
}
"""The alerts of clients that refuse the certificate they are shown, by the end of OpenSSL's name for them."""

_NO_VERSION = ("UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW", "ALERT_PROTOCOL_VERSION", "WRONG_SSL_VERSION")


def _explain(error: BaseException | type[BaseException], first: bytes, tls: TlsSettings) -> _Failure:
    if first and not begins_tls(first):
        return _Failure("the client does not speak TLS", "use https:// in its endpoint")
    if isinstance(error, TimeoutError):
        return _Failure(f"the client did not finish within {_SECONDS:g} s", "look for what delays it on the way")
    if not isinstance(error, ssl.SSLError):
        return _Failure(
            "the client went away in the middle",
            f"see what it logs: often it does not trust the CA of {tls.cert_file}",
        )
    reason = str(error.reason or error)
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return _Failure(
            "the client shows no certificate",
            f"give it one of a CA in {tls.client_ca_file} and its key: OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and "
            "OTEL_EXPORTER_OTLP_CLIENT_KEY of an SDK, tls: {cert_file, key_file} of a Collector or a hub",
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return _Failure(
            f"the client's certificate is refused: {error.verify_message}",
            f"give it one that is valid now and of a CA in {tls.client_ca_file}",
        )
    for alert, words in _OUR_CERTIFICATE.items():
        if reason.endswith(f"_ALERT_{alert}"):
            return _Failure(
                f"the client refuses the certificate of this port: {words}",
                f"give it the CA of {tls.cert_file} (OTEL_EXPORTER_OTLP_CERTIFICATE of an SDK, tls: ca_file of a "
                "Collector or a hub), and look whether that certificate is valid now and has the name that the "
                "client's endpoint has",
            )
    if reason.endswith(_NO_VERSION):
        return _Failure(
            f"the client speaks no version of TLS that this port takes, which are {tls.min_version} and newer",
            "bring the client up to date, or lower tls: min_version",
        )
    return _Failure(reason.replace("_", " ").lower(), "see what the client logs about its end")
