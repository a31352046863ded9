"""Reading secrets from OpenBao's KV engine, version 2."""

from __future__ import annotations

import functools
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
import structlog
from hvac.api.auth_methods import Kubernetes

from gateway.config.substitution import NotNowError
from gateway.secrets.access import Access, AccessError, from_environment

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_TIMEOUT = 5
"""Seconds for one request. A configuration with many secrets asks once for each path."""


_LOGIN_PAUSES = (60.0, 120.0, 240.0, 960.0)
"""Seconds between log-ins that are refused. OpenBao locks a role out, for everybody who uses it, after five refusals of
which none is more than a quarter of an hour after the one before; these are four, and then each stands alone."""


class _CannotAnswerError(NotNowError):
    """OpenBao is away, sealed or not set up: what environment variables may stand in for."""


class _LoginRefusedError(NotNowError):
    """Who we say we are is not, or no longer, known. It is not asked again before the pause is over."""


@dataclass(slots=True)
class _Cached:
    values: Mapping[str, Any] = field(repr=False)
    until: float


class OpenBao:
    """Reads secrets, and keeps each for a while. Safe in any thread.

    Logs in when it first has to, again when the token ends, and renews it before. ``reread`` is asked for the access at
    each login: what is in files may have been replaced, as an agent does with a token that ends. One that was refused
    is not tried again for a while, unless it was replaced.
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
        self._refused: Access | None = None
        self._refusals = 0
        self._ask_again_at = 0.0

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
        except LookupError as error:
            raise type(error)(self._without_secrets(str(error.args[0]))) from None
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
            if self._is_version_1():
                raise LookupError(
                    f"the mount '{access.mount}' is a KV store of version 1, and secrets are read from version 2; make "
                    f"it one by `bao kv enable-versioning {access.mount}`, or name another by OBSHUB_BAO_MOUNT"
                ) from None
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
        self._spare(access)
        client = hvac.Client(
            access.address,
            token=access.token,
            namespace=access.namespace,
            verify=access.ca_file or True,
            timeout=_TIMEOUT,
        )
        if access.token is not None:
            auth = self._own_token(client)
        else:
            try:
                auth = _log_in(client, access)
            except (hvac.exceptions.InvalidRequest, hvac.exceptions.Forbidden, hvac.exceptions.Unauthorized) as error:
                raise self._refuse(access, error) from None
        self._refused, self._refusals = None, 0
        self._client = client
        self._plan_renewal(auth)
        return client

    def _spare(self, access: Access) -> None:
        """Raise `_LoginRefusedError` as long as what was refused is not to be tried again."""
        left = self._ask_again_at - self._clock()
        if access == self._refused and left > 0:
            raise _LoginRefusedError(
                f"{_login_refused(access)}; it is tried again in {round(left)} seconds, for more refusals would lock "
                "the role out"
            )

    def _refuse(self, access: Access, error: Exception) -> _LoginRefusedError:
        """Note that a log-in was refused; return what to raise."""
        self._refusals = self._refusals + 1 if access == self._refused else 1
        self._refused = access
        pause = _LOGIN_PAUSES[min(self._refusals, len(_LOGIN_PAUSES)) - 1]
        self._ask_again_at = self._clock() + pause
        return _LoginRefusedError(f"{_login_refused(access)}: {_first_line(error)}")

    def _is_version_1(self) -> bool:
        """Tell whether the mount is of the KV store that has no versions, as far as we may ask."""
        try:
            answer = self._logged_in().adapter.get(f"/v1/sys/internal/ui/mounts/{self.access.mount}")
            data = answer["data"]
            return bool(data["type"] == "kv" and (data["options"] or {}).get("version", "1") == "1")
        except (hvac.exceptions.VaultError, requests.RequestException, LookupError, TypeError, AttributeError):
            return False

    def _without_secrets(self, message: str) -> str:
        """Leave out of a message what we log in with, whichever library thought it helpful."""
        for secret in filter(None, (self.access.token, self.access.secret_id)):
            message = message.replace(secret, "********")
        return message

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
        _log.warning(
            "a variable of the environment stands in for a secret",
            variable=name,
            secret=f"{path}#{key}",
            reason=error.args[0],
        )
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


def _log_in(client: hvac.Client, access: Access) -> Mapping[str, Any]:
    if access.role_id is not None:
        answer = client.auth.approle.login(access.role_id, access.secret_id)
    else:
        answer = Kubernetes(client.adapter).login(access.kubernetes_role, _read_token(access))
    auth: Mapping[str, Any] = answer["auth"]
    return auth


def _login_refused(access: Access) -> str:
    if access.role_id is not None:
        return (
            f"OpenBao at {access.address} refuses the log-in by AppRole (role id {access.role_id}); a secret id that "
            "has ended is made anew by `bao write -f auth/approle/role/NAME/secret-id`, for BAO_SECRET_ID or the file "
            "that BAO_SECRET_ID_FILE names"
        )
    return (
        f"OpenBao at {access.address} refuses the log-in by Kubernetes (role {access.kubernetes_role}); look at the "
        "role's bound service accounts and namespaces"
    )


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
