"""Where something sends OTLP to: its settings, and the standard environment variables behind them.

Source: OpenTelemetry specification, "OpenTelemetry Protocol Exporter", for the variables and their precedence.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, cast, get_args
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from gateway.base.settings import Duration, Settings
from gateway.component.batch import Signal

Protocol = Literal["grpc", "http/protobuf"]
Compression = Literal["gzip", "zstd", "none"]

_DEFAULT_ENDPOINTS: dict[Protocol, str] = {"grpc": "http://127.0.0.1:4317", "http/protobuf": "http://127.0.0.1:4318"}
_DEFAULT_TIMEOUT = "10"
_HEADER_NAME = re.compile(r"[\w.-]+", re.ASCII)
_NAMES = {Signal.METRICS: "METRICS", Signal.LOGS: "LOGS", Signal.TRACES: "TRACES"}


def check_endpoint(endpoint: str) -> str:
    """Return the endpoint if it is a URL with a host. Raises `ValueError` with an example when it is not."""
    parts = urlsplit(endpoint)
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and " " not in parts.netloc
    except ValueError:  # a port that is no number, or too high
        usable = False
    if not usable:
        raise ValueError("expected a URL such as http://127.0.0.1:4317 or https://hub.example.com:4317")
    if "@" in parts.netloc:
        raise ValueError(
            "expected a URL without user name and password, for it is written to logs; send them in headers "
            "(authorization), to Loki by basic_auth"
        )
    return endpoint


EndpointUrl = Annotated[str, AfterValidator(check_endpoint)]
"""Where to send: a URL. ``http`` is plain text, ``https`` is TLS."""


def _check_header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        # What was found may be a whole line, with its value.
        raise ValueError("expected the name of a header such as x-api-key")
    return name


def check_header_value(value: str) -> str:
    """Return the value if HTTP and gRPC can send it. Raises `ValueError`, which does not tell it, when they cannot."""
    if not re.fullmatch(r"([!-~]([ -~]*[!-~])?)?", value):
        raise ValueError(
            "expected a text of printable ASCII characters, without line breaks, and without spaces around it"
        )
    return value


def _check_secret(value: SecretStr) -> SecretStr:
    check_header_value(value.get_secret_value())
    return value


HeaderSecret = Annotated[SecretStr, AfterValidator(_check_secret)]
"""A secret that is sent in a header."""

Headers = dict[Annotated[str, AfterValidator(_check_header_name)], HeaderSecret]
"""Headers of a request: names and values. What cannot be sent is found here, for the libraries that send would find it
at each request, and some of them tell the value."""


class ClientTlsSettings(Settings):
    """The certificates of a client that sends to an ``https`` address. Files in PEM, read again when they change."""

    ca_file: Path | None = None
    """Certificates of the CAs that the server's may be of. Absent: those that the system trusts."""

    cert_file: Path | None = None
    """The client's own certificate, for mTLS, followed by those that lead to its CA. Files of certificates are read
    again when they change."""

    key_file: Path | None = None
    """Its private key."""

    @model_validator(mode="after")
    def _both(self) -> ClientTlsSettings:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("expected cert_file and key_file together")
        return self


OWN_TELEMETRY_HEADER = "x-obs-hub-own-telemetry"
"""HTTP header and gRPC metadata key that marks what a hub tells of itself, whatever its value: no spans are made of
how it is stored."""


class EmitterSettings(Settings):
    """Where an emitter sends. Without any of it: to the gateway that runs it, or to this machine's standard port."""

    endpoint: EndpointUrl | None = None
    """Where to send OTLP, such as ``http://127.0.0.1:4317``.

    Absent: as ``OTEL_EXPORTER_OTLP_ENDPOINT`` says, or the variable of the one signal such as
    ``OTEL_EXPORTER_OTLP_LOGS_ENDPOINT``, and else this gateway. For ``http/protobuf`` it is the base URL, to which
    ``/v1/logs`` and the like are added.
    """

    protocol: Protocol | None = None
    """Absent: as ``OTEL_EXPORTER_OTLP_PROTOCOL`` or the variable of the one signal says, and else grpc."""

    headers: Headers = Field(default_factory=dict)
    """Headers (gRPC metadata) of each request. They replace those of ``OTEL_EXPORTER_OTLP_HEADERS``."""

    timeout: Annotated[Duration, Field(gt=timedelta(0))] | None = None
    """How long one export may take.

    Absent: as ``OTEL_EXPORTER_OTLP_TIMEOUT`` or the variable of the one signal says (in seconds, as the Python SDK
    reads them), and else ``10s``.
    """


class DestinationError(ValueError):
    """The settings or the environment name a destination that cannot be used. The text says where, and what would do.

    An endpoint out of the environment is not told: it may hold a password.
    """


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to send, resolved. ``endpoint`` is a URL, for ``http/protobuf`` with the signal's path; ``timeout`` is in
    seconds; ``headers`` may hold secrets.

    The certificates are files in PEM: the CA of the server's certificate (None: the system's), and the client's own for
    mTLS.
    """

    protocol: Protocol
    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 10.0
    compression: Compression = "none"
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


def names_endpoint(settings: EmitterSettings, signal: Signal, environ: Mapping[str, str] | None = None) -> bool:
    """Tell whether the settings or the standard environment variables say where a signal goes."""
    variables = os.environ if environ is None else environ
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{_NAMES[signal]}_ENDPOINT")
    return settings.endpoint is not None or any(variables.get(name) for name in names)


def destination(settings: EmitterSettings, signal: Signal, environ: Mapping[str, str] | None = None) -> Destination:
    """Work out where a signal goes: settings first, then the standard environment variables, then this machine.

    Raises `DestinationError` for what cannot be used.
    """
    variables = os.environ if environ is None else environ

    def name_of(name: str) -> str:
        own = f"OTEL_EXPORTER_OTLP_{_NAMES[signal]}_{name}"
        return own if variables.get(own) else f"OTEL_EXPORTER_OTLP_{name}"

    def variable(name: str) -> str | None:
        return variables.get(name_of(name))

    def path(name: str) -> Path | None:
        value = variable(name)
        return Path(value) if value else None

    protocol = settings.protocol or variable("PROTOCOL") or "grpc"
    if protocol not in get_args(Protocol):
        raise DestinationError(f"{name_of('PROTOCOL')} is {protocol}; expected {' or '.join(get_args(Protocol))}")
    protocol = cast("Protocol", protocol)
    endpoint = settings.endpoint or variable("ENDPOINT") or _DEFAULT_ENDPOINTS[protocol]
    if (
        protocol == "grpc" and not settings.endpoint and "://" not in endpoint
    ):  # the specification allows gRPC's own form, host:port
        insecure = (variable("INSECURE") or "").lower() == "true"
        endpoint = f"{'http' if insecure else 'https'}://{endpoint}"
    try:
        check_endpoint(endpoint)
    except ValueError as error:
        raise DestinationError(f"{'endpoint' if settings.endpoint else name_of('ENDPOINT')}: {error}") from error
    # The specification takes the variable of the one signal as it is, and the common one as a base.
    as_it_is = not settings.endpoint and variables.get(f"OTEL_EXPORTER_OTLP_{_NAMES[signal]}_ENDPOINT")
    if protocol == "http/protobuf" and not as_it_is:
        endpoint = with_path(endpoint, signal)
    headers = {name.lower(): value.get_secret_value() for name, value in settings.headers.items()}
    return Destination(
        protocol,
        endpoint,
        headers or _parsed_headers(variable("HEADERS") or "", name_of("HEADERS")),
        timeout(settings, signal, environ),
        "gzip" if variable("COMPRESSION") == "gzip" else "none",
        path("CERTIFICATE"),
        path("CLIENT_CERTIFICATE"),
        path("CLIENT_KEY"),
    )


def timeout(settings: EmitterSettings, signal: Signal, environ: Mapping[str, str] | None = None) -> float:
    """Return how many seconds one export may take. Raises `DestinationError` for a variable that is no such number."""
    if settings.timeout is not None:
        return settings.timeout / timedelta(seconds=1)
    variables = os.environ if environ is None else environ
    own = f"OTEL_EXPORTER_OTLP_{_NAMES[signal]}_TIMEOUT"
    name = own if variables.get(own) else "OTEL_EXPORTER_OTLP_TIMEOUT"
    try:
        seconds = float(variables.get(name) or _DEFAULT_TIMEOUT)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise DestinationError(f"{name}: expected seconds, such as {_DEFAULT_TIMEOUT}")
    return seconds


def _parsed_headers(text: str, variable: str) -> dict[str, str]:
    """Read ``name=value,name=value``, values percent-encoded. What is wrong is told by its place, never by its value.

    Source: OpenTelemetry specification, "Specifying headers via environment variables".
    """
    headers = {}
    for number, item in enumerate(filter(str.strip, text.split(",")), start=1):
        name, equals, value = item.partition("=")
        if not equals or not _HEADER_NAME.fullmatch(name.strip()):
            raise DestinationError(f"{variable}, header {number}: expected name=value, as in x-api-key=abc")
        try:
            headers[name.strip().lower()] = check_header_value(unquote(value).strip())
        except ValueError as error:
            raise DestinationError(f"{variable}, header {number}: {error}") from None
    return headers


def with_path(endpoint: str, signal: Signal) -> str:
    """Return the URL of a signal under a base URL of OTLP/HTTP."""
    path = f"/v1/{signal.value}"
    return endpoint.rstrip("/").removesuffix(path) + path
