"""The hub's units: which there are, where their files lie, and how they are made for a machine.

A file in ``systemd/`` is a unit as it is installed, but for words such as ``@OBS_HUB@``, which stand for paths, and for
what lies between the lines ``#[system]`` and ``#[end]``, which a user's own service manager could not do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import gateway

_INSTALLED = Path(gateway.__file__).parent / "_systemd"
_CHECKOUT = Path(gateway.__file__).parents[1]
FOLDER = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT / "systemd"
"""Where the unit files are: in the installed package, or in a checkout."""

MARK = "# Written by `obs-hub systemd install`, which replaces this file."
"""The first line of a file that was installed. Only such files are replaced or removed."""

_WORD = re.compile(r"@([A-Z_]+)@")
_SYSTEM_ONLY = re.compile(r"^#\[system\]\n(.*?)^#\[end\]\n", re.MULTILINE | re.DOTALL)
_PLAIN_PATH = re.compile(r"/[\w./+:@=,~-]*", re.ASCII)


class UnitError(Exception):
    """A unit cannot be made or installed as asked. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A service with what belongs to it: ``user`` is the system user it runs as, if that is one of its own.

    ``timer`` tells that a timer starts it, ``default`` that it is installed when none is named, ``per_user`` that a
    user can run it without root. ``sample`` is the configuration file that it cannot do without, ``needs`` the rest.

    A template, whose name ends with ``@``, has files for any number of instances, such as one for each pipeline.
    ``earlier`` is the service that an instance was before.
    """

    name: str
    service: str
    what: str
    needs: str
    user: str | None = None
    timer: bool = False
    default: bool = False
    per_user: bool = True
    sample: str | None = None
    instance: str | None = None
    earlier: str | None = None

    @property
    def is_template(self) -> bool:
        """Whether it has instances, and is itself nothing that could be started."""
        return self.name.endswith("@")

    @property
    def own_credentials(self) -> bool:
        """Whether it reads the configuration, and gets credentials of its own for that instead of the gateway's."""
        return self.sample == "hub.yaml" and self.name != "gateway"

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its unit files."""
        return _files(self.service, timer=self.timer)

    @property
    def started(self) -> tuple[str, ...]:
        """The names that systemd knows it by, in the order of its files. The last is the one that is enabled."""
        return _files(f"{self.service}{self.instance or ''}", timer=self.timer)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Return each file with the name that systemd knows what it describes by."""
        return list(zip(self.files, self.started, strict=True))

    @property
    def earlier_files(self) -> tuple[str, ...]:
        """The names of the unit files that it had before."""
        return _files(self.earlier, timer=self.timer) if self.earlier else ()

    def of(self, instance: str) -> Unit:
        """Return an instance of a template."""
        name = f"{self.name}{instance}"
        return replace(self, name=name, instance=instance, earlier=RENAMED.get(name))


def _files(service: str, *, timer: bool) -> tuple[str, ...]:
    return (f"{service}.service", f"{service}.timer") if timer else (f"{service}.service",)


UNITS = {
    unit.name: unit
    for unit in (
        Unit(
            "gateway",
            "obs-hub",
            "OTLP in, the store out, the API and the page",
            "nothing; without a dsn it has its own PostgreSQL",
            user="obs-hub",
            default=True,
            sample="hub.yaml",
        ),
        Unit(
            "hostmetrics",
            "obs-hub-hostmetrics",
            "this machine's metrics, all the time",
            "a gateway, here or by OTEL_EXPORTER_OTLP_ENDPOINT in emitters.env",
            user="obs-hub-metrics",
            default=True,
        ),
        Unit(
            "hostmetrics-once",
            "obs-hub-hostmetrics-once",
            "this machine's metrics, once a minute: less memory; instead of hostmetrics",
            "as hostmetrics",
            user="obs-hub-metrics",
            timer=True,
        ),
        Unit(
            "journal",
            "obs-hub-journal",
            "this machine's logs, from the journal",
            "as hostmetrics; the group systemd-journal",
            default=True,
        ),
        Unit(
            "pipeline@",
            "obs-hub-pipeline@",
            "runs a pipeline once an hour: pipeline@reading that named `reading`",
            "the pipeline in hub.yaml, and its MongoDB",
            user="obs-hub",
            timer=True,
            sample="hub.yaml",
        ),
        Unit(
            "gitops-sync",
            "obs-hub-gitops-sync",
            "reconciles the repositories, every quarter of an hour",
            "repositories in hub.yaml, and ReadWritePaths= for each in a drop-in for obs-hub.service",
            user="obs-hub",
            timer=True,
            sample="hub.yaml",
        ),
        Unit(
            "tailscale-gate",
            "obs-hub-tailscale-gate",
            "opens the webhook to Tailscale while the gateway is ready",
            "tailscale set --operator=obs-hub-gate",
            user="obs-hub-gate",
            sample="hub.yaml",
        ),
        Unit(
            "openbao",
            "obs-hub-openbao",
            "an OpenBao server on loopback",
            "the command bao; to be initialized and unsealed once it runs",
            user="openbao",
            per_user=False,
            sample="openbao.hcl",
        ),
        Unit(
            "backup",
            "obs-hub-backup",
            "a dump of the store, every night; seven are kept",
            "the gateway, or a dsn; room on the disk",
            user="obs-hub",
            timer=True,
            sample="hub.yaml",
        ),
        Unit(
            "page",
            "obs-hub-page",
            "the page as files for any web server, every five minutes",
            "a web server that serves /var/lib/obs-hub-page",
            user="obs-hub",
            timer=True,
            sample="hub.yaml",
        ),
    )
}
"""Every unit, by the name that people say."""

RENAMED = {"pipeline@reading": "obs-hub-reading-sync"}
"""Services that are instances of a template now."""

_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def unit_of(name: str) -> Unit | None:
    """Return the unit that people name so, be it by the name that it had before, or None where there is none."""
    for present, earlier in RENAMED.items():
        if name == earlier.removeprefix("obs-hub-"):
            name = present
    template, at, instance = name.partition("@")
    if not at:
        return UNITS.get(name)
    found = UNITS.get(f"{template}@")
    return found.of(instance) if found is not None and _INSTANCE.fullmatch(instance) else None


def sample(name: str) -> str:
    """Return a configuration file to begin with."""
    path = FOLDER / name
    return (path if path.exists() else _CHECKOUT / "otel-config" / "openbao" / name).read_text("utf-8")


def sysusers(user: str) -> str:
    """Return the line of sysusers.d(5) that makes a system user."""
    return f"{MARK}\n{(FOLDER / 'sysusers.d' / f'{user}.conf').read_text('utf-8')}"


def rendered(file: str, words: Mapping[str, str], *, per_user: bool) -> str:
    """Return a unit file as it is installed. Raises `UnitError` for a path that a unit file cannot hold as it is."""

    def put(word: re.Match[str]) -> str:
        value = words[word[1]]
        if value.startswith("/") and not _PLAIN_PATH.fullmatch(value):
            raise UnitError(f"{value!r} has characters that mean something else in a unit file; choose another path")
        return value

    text = (FOLDER / file).read_text("utf-8")
    text = _SYSTEM_ONLY.sub("" if per_user else r"\1", text)
    edit = f"systemctl {'--user ' if per_user else ''}edit {file}"
    return f"{MARK}\n# To change something: {edit}\n\n{_WORD.sub(put, text)}"


def is_ours(path: Path) -> bool:
    """Tell whether a file is there and was installed by us."""
    try:
        return path.read_text("utf-8").startswith(MARK)
    except (FileNotFoundError, UnicodeDecodeError):
        return False
