"""One request to Loki, and what its answer means.

Source of the rules: Loki 3.7, ``pkg/distributor/http.go``, ``distributor.go`` and ``validator.go``,
``pkg/ingester/stream.go``, ``pkg/loghttp/push/otlp.go``:

* 204: everything is stored. Proxies make a 200 of it. What comes with a page is no answer of Loki's.
* 400: what breaks a rule is left out, and the rest is stored, unless the request could not be read. The message says
  which rule, of some of the entries.
* 413: the request is larger than Loki takes. Nothing is stored.
* 429: a rate or the number of streams is beyond its limit. Some streams may have been stored.
* 503, also in place of 500: an ingester is missing, or was sent more at once than it takes. A message beyond the gRPC
  limit between distributor and ingester (4 MiB by default) is told like that, too, and the text says "larger than max".
* 260, or what ``block_ingestion_status_code`` says: ingestion is blocked until a time. Nothing of it is stored.
"""

from __future__ import annotations

import base64
from datetime import timedelta

from exporters.loki.config import LokiConfig
from gateway.component import OverloadedError, RefusedError, Signal, TooLargeForDestinationError, UnavailableError
from gateway.net.client import (
    MISCONFIGURED_SECONDS,
    NO_ANSWER,
    acknowledged,
    compressed,
    explained,
    http_client,
    is_misconfigured,
    is_too_large,
    retry_after,
    unreachable,
)
from gateway.net.destination import Compression, Destination

_STORED = {200, 202, 204}
_MAY_SPEAK_OF_SIZE = {400, 429, 500, 503}
_HINTS = {
    401: "set tenant_id, basic_auth or bearer_token as this Loki wants them",
    403: "this user or token may not write to that tenant",
    404: "the setting endpoint must be the base URL of a Loki of version 3.0 or newer",
}


class BusyError(OverloadedError):
    """Loki, or what stands before it, answers that this request is too much for now."""


class LokiClient:
    """Sends to one Loki. Making it raises `OSError` when a certificate cannot be used."""

    def __init__(self, config: LokiConfig) -> None:
        self._url = f"{config.endpoint}/otlp/v1/logs"
        self._compression: Compression = config.compression
        self._timeout = seconds = config.timeout / timedelta(seconds=1)
        tls = config.tls
        to = Destination(
            "http/protobuf", self._url, {}, seconds, config.compression, tls.ca_file, tls.cert_file, tls.key_file
        )
        self._client = http_client(to, _headers(config))

    async def push(self, payload: bytes, seconds: float = 0.0) -> None:
        """Send a serialized ``ExportLogsServiceRequest``, which may take so long where that is longer than ``timeout``.

        Raises `RefusedError` when Loki will never take it as it is (`TooLargeForDestinationError` when that is for its
        size), `BusyError` when it is too much for now, and `UnavailableError` when there is no answer, or one that is
        not Loki's or speaks of settings rather than of this request.
        """
        headers = {} if self._compression == "none" else {"content-encoding": self._compression}
        try:
            body = await compressed(payload, self._compression)
            async with self._client.use() as client:
                timeout = max(self._timeout, seconds)
                response = await client.post(self._url, content=body, headers=headers, timeout=timeout)
        except NO_ANSWER as error:
            raise unreachable(self._url, error) from None
        code = response.status_code
        if code in _STORED:
            acknowledged(Signal.LOGS, response, self._url)
            return
        message = f"Loki answers {explained(response)}"
        if code == 413 or (code in _MAY_SPEAK_OF_SIZE and is_too_large(message)):
            raise TooLargeForDestinationError(message)
        if code == 429 or code >= 500:
            raise BusyError(message, retry_after(response))
        if is_misconfigured(response):
            hint = _HINTS.get(code)
            raise UnavailableError(f"{message} ({hint})" if hint else message, MISCONFIGURED_SECONDS)
        if code < 300 or code == 408:
            raise UnavailableError(message, retry_after(response, MISCONFIGURED_SECONDS if code < 300 else 1.0))
        raise RefusedError(message)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _headers(config: LokiConfig) -> dict[str, str]:
    headers = {name.lower(): value.get_secret_value() for name, value in config.headers.items()}
    if config.tenant_id is not None:
        headers["x-scope-orgid"] = config.tenant_id
    if config.basic_auth is not None:
        user = f"{config.basic_auth.username}:{config.basic_auth.password.get_secret_value()}"
        headers["authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    elif config.bearer_token is not None:
        headers["authorization"] = f"Bearer {config.bearer_token.get_secret_value()}"
    return headers | {"content-type": "application/x-protobuf"}
