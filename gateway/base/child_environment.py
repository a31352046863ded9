"""The environment of programs that are run: what they need, and not the secrets in this process's own.

An environment is an allow-list. Whoever needs more than `BASE` says so by the groups below, which name variables or
begin them (``LC_*``).
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping

BASE = ("PATH", "LD_LIBRARY_PATH", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR")
"""What any program needs: where others are, languages, time zone, where to put temporary files."""

USER = ("HOME", "USER", "LOGNAME", "SHELL", "XDG_*")
"""Where a user's settings of a program are."""

NETWORK = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
)
"""How the network is reached, and whom to trust there."""

SYSTEMD = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS")
"""How a user's service manager is reached."""

GIT = (*USER, *NETWORK, "SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "GNUPGHOME")
"""Git with what it calls: ssh and its agent, a keyring's helper for credentials, gpg."""

KUBERNETES = (*USER, *NETWORK, "KUBECONFIG")
"""kubectl, and with ``HELM_*`` helm."""

POSTGRESQL = (*USER, "PG*", "KRB5*")
"""libpq's own variables, and where it looks for passwords and certificates."""


def environment(
    *groups: str, given: Mapping[str, str] | None = None, inherited: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment of a program: `BASE` and the groups as this process has them, and what is given.

    ``inherited`` stands for this process's environment.
    """
    source = os.environ if inherited is None else inherited
    wanted = (*BASE, *groups)
    kept = {name: value for name, value in source.items() if any(fnmatch.fnmatchcase(name, one) for one in wanted)}
    return {"PATH": os.defpath, **kept, **(given or {})}
