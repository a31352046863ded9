"""Reading secrets from OpenBao's KV engine, version 2."""

from __future__ import annotations

import functools
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import hvac
import hvac.exceptions
import requests
from hvac.api.auth_methods import Kubernetes

from gateway.secrets.access import Access, AccessError, from_environment

_log = logging.getLogger(__name__)

_TIMEOUT = 5
"""Seconds for one request. A configuration with many secrets asks once for each path."""


class _CannotAnswerError(LookupError):
    """OpenBao is away, sealed or not set up: what environment variables may stand in for."""


@dataclass(slots=True)
class _Cached:
    values: Mapping[str, Any] = field(repr=False)
    until: float


class OpenBao:
    """Reads secrets, and keeps each for a while. Safe in any thread.

    Logs in when it first has to, again when the token ends, and renews it before. ``reread`` is asked for the access at
    each login: what is in files may have been replaced, as an agent does with a token that ends.
    """

    def __init__(
        self,
        access: Access,
        clock: Callable[[], float] = time.monotonic,
        reread: Callable[[], Access] | None = None,
    ) -> None:
        self.access = access
        self._reread = reread or (lambda: access)
        self._clock = clock
        self._lock = threading.Lock()
        self._cache: dict[str, _Cached] = {}
        self._client: hvac.Client | None = None
        self._renew_at = float("inf")

    def get(self, reference: str) -> str:
        """Return the secret that ``path#key`` names. Raises `LookupError` that says what is wrong and what to do."""
        path, hash_sign, key = reference.partition("#")
        path = path.strip("/")
        if not hash_sign or not path or not key:
            raise LookupError("expected a path and a key, as in ${bao:hub/database#password}")
        try:
            with self._lock:
                values = self._read(path)
        except _CannotAnswerError as error:
            return self._from_environment(path, key, error)
        value = values.get(key)
        if value is None:
            there = f"it has {', '.join(sorted(values))}" if values else "it is empty"
            raise LookupError(f"'{path}' in OpenBao has no key '{key}'; {there}")
        if not isinstance(value, str | int | float):
            raise LookupError(f"key '{key}' of '{path}' in OpenBao is a {type(value).__name__}; expected a text")
        return str(value)

    def forget(self) -> None:
        """Ask for every secret anew the next time."""
        with self._lock:
            self._cache.clear()

    def _read(self, path: str) -> Mapping[str, Any]:
        now = self._clock()
        cached = self._cache.get(path)
        if cached is not None and now < cached.until:
            return cached.values
        values = self._explained(path, lambda client: self._fetch(client, path))
        self._cache[path] = _Cached(values, now + self.access.cache_seconds)
        return values

    def _fetch(self, client: hvac.Client, path: str) -> Mapping[str, Any]:
        answer = client.secrets.kv.v2.read_secret_version(
            path, mount_point=self.access.mount, raise_on_deleted_version=True
        )
        data: Mapping[str, Any] = answer["data"]["data"]
        return data

    def _explained(self, path: str, ask: Callable[[hvac.Client], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Ask, log in again where the token has ended, and say in words what went wrong."""
        where, access = f"'{access_path(self.access.mount, path)}'", self.access
        try:
            try:
                return ask(self._logged_in())
            except hvac.exceptions.Forbidden:
                self._client = None
                client = self._logged_in()
                if access.token is not None and access.token == self.access.token:  # there is no other way in
                    raise
                return ask(client)
        except hvac.exceptions.InvalidPath:
            raise LookupError(
                f"OpenBao has nothing at {where}; write it by "
                f"`bao kv put -mount={access.mount} {path} KEY=VALUE`, or name another mount by OBSHUB_BAO_MOUNT"
            ) from None
        except (hvac.exceptions.Forbidden, hvac.exceptions.Unauthorized):
            raise LookupError(
                f"OpenBao does not let us read {where} (logged in by {access.method}); its policy must allow 'read' "
                f"on '{access_path(access.mount, 'data/' + path)}', and the token must not have ended"
            ) from None
        except hvac.exceptions.VaultDown as error:
            sealed = "sealed" in str(error).lower()
            what = "is sealed; unseal it by `bao operator unseal`" if sealed else "answers that it is not available"
            raise _CannotAnswerError(f"OpenBao at {access.address} {what}") from None
        except hvac.exceptions.VaultNotInitialized:
            raise _CannotAnswerError(
                f"OpenBao at {access.address} is not initialized; see `bao operator init`"
            ) from None
        except requests.exceptions.SSLError as error:
            raise LookupError(
                f"the certificate of {access.address} is not trusted: {_innermost(error)}; name its CA by BAO_CACERT"
            ) from None
        except requests.RequestException as error:
            raise _CannotAnswerError(f"OpenBao at {access.address} cannot be reached: {_innermost(error)}") from None
        except (hvac.exceptions.InternalServerError, hvac.exceptions.BadGateway) as error:
            # A cluster that has no leader yet, as for some seconds after it was unsealed; or what is in front of it.
            raise _CannotAnswerError(f"OpenBao at {access.address} cannot answer: {_first_line(error)}") from None
        except (TypeError, KeyError):
            raise LookupError(f"what answers at {access.address} is not OpenBao; see BAO_ADDR") from None
        except hvac.exceptions.VaultError as error:
            # The message is OpenBao's own word on the request, never the secret.
            raise LookupError(f"OpenBao at {access.address}: {_first_line(error)}") from None

    def _logged_in(self) -> hvac.Client:
        if self._client is not None and self._clock() < self._renew_at:
            return self._client
        if self._client is not None and self._renewed(self._client):
            return self._client
        self._client = None
        self.access = access = self._reread()
        client = hvac.Client(
            access.address,
            token=access.token,
            namespace=access.namespace,
            verify=access.ca_file or True,
            timeout=_TIMEOUT,
        )
        if access.token is not None:
            auth = self._own_token(client)
        elif access.role_id is not None:
            auth = client.auth.approle.login(access.role_id, access.secret_id)["auth"]
        else:
            auth = Kubernetes(client.adapter).login(access.kubernetes_role, _read_token(access))["auth"]
        self._client = client
        self._plan_renewal(auth)
        return client

    def _own_token(self, client: hvac.Client) -> Mapping[str, Any]:
        """Return what is known of the token that we were given. Not every token may ask about itself."""
        try:
            data: Mapping[str, Any] = client.auth.token.lookup_self()["data"]
        except hvac.exceptions.Forbidden:
            return {}
        return {"lease_duration": data.get("ttl", 0), "renewable": data.get("renewable", False)}

    def _renewed(self, client: hvac.Client) -> bool:
        """Renew the token. Returns False where it must be replaced by logging in."""
        try:
            auth = client.auth.token.renew_self()["auth"]
        except hvac.exceptions.InvalidRequest:
            return self._unrenewable()
        except hvac.exceptions.Forbidden:
            return self._unrenewable()
        self._plan_renewal(auth)
        return True

    def _unrenewable(self) -> bool:
        if self.access.token is None:
            return False
        # It goes on being used until it ends; then the error says so.
        self._renew_at = float("inf")
        return True

    def _plan_renewal(self, auth: Mapping[str, Any]) -> None:
        seconds = float(auth.get("lease_duration") or 0)
        self._renew_at = self._clock() + seconds / 2 if seconds > 0 else float("inf")

    def _from_environment(self, path: str, key: str, error: LookupError) -> str:
        if not self.access.environment_fallback:
            raise error
        name = variable_name(path, key)
        value = os.environ.get(name)
        if value is None:
            raise LookupError(f"{error.args[0]}; the environment variable {name} could stand in, but is not set")
        _log.warning("%s; %s stands in for '%s#%s'", error.args[0], name, path, key)
        return value


def access_path(mount: str, path: str) -> str:
    """Return a path as people and policies write it, its mount in front."""
    return f"{mount}/{path}"


def variable_name(path: str, key: str) -> str:
    """Return the environment variable that stands in: ``HUB_DATABASE_PASSWORD`` for ``hub/database#password``."""
    return re.sub(r"[^A-Z0-9]+", "_", f"{path}_{key}".upper())


@functools.cache
def _process_wide() -> OpenBao:
    return OpenBao(from_environment(), reread=from_environment)


def resolve(reference: str) -> str:
    """Return a secret, by what the environment says of OpenBao. Raises `LookupError`."""
    return _process_wide().get(reference)


def _read_token(access: Access) -> str:
    try:
        return access.kubernetes_token_file.read_text("utf-8").strip()
    except OSError as error:
        raise AccessError(
            f"the service account's token cannot be read from {access.kubernetes_token_file}: {error.strerror} "
            "(BAO_KUBERNETES_TOKEN_FILE)"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _innermost(error: BaseException) -> str:
    """Return the reason at the bottom of an error of requests, which wraps several."""
    seen: BaseException = error
    while (inner := getattr(seen, "reason", None) or (seen.args[0] if seen.args else None)) is not None:
        if not isinstance(inner, BaseException):
            break
        seen = inner
    text = str(seen).rpartition(": ")[2] or str(seen)
    return text or type(seen).__name__
