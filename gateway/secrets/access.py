"""How to reach OpenBao. It comes from the environment, since the configuration is read with it.

The names are those of OpenBao's own command line where it has one (``BAO_ADDR``, ``BAO_TOKEN``, ``BAO_NAMESPACE``,
``BAO_CACERT``), with Vault's (``VAULT_ADDR`` and so on) behind them, as there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.base.settings import parse_duration
from gateway.net.destination import check_header_value

_SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class AccessError(LookupError):
    """The environment does not say how to reach OpenBao, or says it wrongly."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where OpenBao is, and who we are there: a token, an AppRole, or a Kubernetes service account.

    ``cache_seconds`` is how long a secret is taken from memory before it is asked for again, and how often it is looked
    whether one has been rotated. With ``environment_fallback``, secrets come from environment variables as long as
    OpenBao cannot answer.
    """

    address: str
    token: str | None = field(default=None, repr=False)
    role_id: str | None = None
    secret_id: str | None = field(default=None, repr=False)
    kubernetes_role: str | None = None
    kubernetes_token_file: Path = _SERVICE_ACCOUNT_TOKEN
    mount: str = "secret"
    namespace: str | None = None
    ca_file: str | None = None
    cache_seconds: float = 60.0
    environment_fallback: bool = False

    @property
    def method(self) -> str:
        """How we log in, for messages."""
        if self.token is not None:
            return "token"
        return "AppRole" if self.role_id is not None else "Kubernetes"


def from_environment(environ: Mapping[str, str] | None = None) -> Access:
    """Read the environment. Raises `AccessError`, which says what to set."""
    variables = os.environ if environ is None else environ

    def common(name: str) -> str | None:
        return variables.get(f"BAO_{name}") or variables.get(f"VAULT_{name}") or None

    def secret(name: str) -> str | None:
        """Read a secret or, better, the file that a variable names: systemd and Kubernetes hand over files."""
        file = variables.get(f"{name}_FILE")
        value = variables.get(name, "").strip()  # many come with the line break of the file they were read from
        if not value and file:
            try:
                value = Path(file).read_text("utf-8").strip()
            except OSError as error:
                raise AccessError(f"{name}_FILE names {file}, which cannot be read: {error.strerror}") from None
            except UnicodeDecodeError:
                raise AccessError(f"{name}_FILE names {file}, which is no text") from None
            name = f"{name}_FILE"
        if value:
            try:  # a library that cannot send it would tell it
                check_header_value(value)
            except ValueError as error:
                raise AccessError(f"{name}: {error}") from None
        return value or None

    address = common("ADDR")
    if address is None:
        raise AccessError(
            "BAO_ADDR is not set; set it to OpenBao's address, such as https://127.0.0.1:8200, and BAO_TOKEN, "
            "BAO_ROLE_ID with BAO_SECRET_ID, or BAO_KUBERNETES_ROLE to log in with"
        )
    token = secret("BAO_TOKEN") or secret("VAULT_TOKEN")
    role_id, kubernetes_role = variables.get("BAO_ROLE_ID"), variables.get("BAO_KUBERNETES_ROLE")
    if not (token or role_id or kubernetes_role):
        raise AccessError(
            "nothing says how to log in to OpenBao; set BAO_TOKEN, or BAO_ROLE_ID with BAO_SECRET_ID, or "
            "BAO_KUBERNETES_ROLE (BAO_TOKEN_FILE and BAO_SECRET_ID_FILE name files instead)"
        )
    fallback = variables.get("OBSHUB_BAO_FALLBACK", "none")
    if fallback not in ("none", "env"):
        raise AccessError(f"OBSHUB_BAO_FALLBACK is {fallback!r}; expected none or env")
    return Access(
        address,
        token,
        role_id,
        secret("BAO_SECRET_ID"),
        kubernetes_role,
        Path(variables.get("BAO_KUBERNETES_TOKEN_FILE") or _SERVICE_ACCOUNT_TOKEN),
        variables.get("OBSHUB_BAO_MOUNT", "secret"),
        common("NAMESPACE"),
        common("CACERT"),
        cache_seconds(variables),
        fallback == "env",
    )


def cache_seconds(variables: Mapping[str, str]) -> float:
    """Return after how many seconds a secret is read again, one in a file as well. Raises `AccessError`."""
    try:
        return max(parse_duration(variables.get("OBSHUB_BAO_CACHE_TTL", "1m")).total_seconds(), 1.0)
    except ValueError as error:
        raise AccessError(f"OBSHUB_BAO_CACHE_TTL: {error}") from None
