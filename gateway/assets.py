"""What comes with the hub for programs around it: Grafana's dashboards, configurations of Alloy and its like.

Their one source is ``otel-config/`` of the project; a wheel has a copy of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gateway
from gateway.files.durability import mode_of, replace_file

_INSTALLED = Path(gateway.__file__).parent / "_assets"
FOLDER = _INSTALLED if _INSTALLED.is_dir() else Path(gateway.__file__).parents[1] / "otel-config"
"""Where they are: in the installed package, or in a checkout."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file or a folder below `FOLDER`, where it usually goes, and what it is."""

    name: str
    usual_place: str
    what: str


ASSETS = (
    Asset("grafana/dashboards", "/var/lib/grafana/dashboards/obs-hub", "dashboards for Grafana 12 and newer"),
    Asset("grafana/provisioning", "/etc/grafana/provisioning", "Grafana's data sources, dashboards' folder, alerts"),
    Asset("alloy/config.alloy", "/etc/alloy/config.alloy", "Grafana Alloy on a host: OTLP, journal, to the hub"),
    Asset("alloy/kubernetes.alloy", "a ConfigMap", "Grafana Alloy as a DaemonSet"),
    Asset("alloy/kubernetes-journal.alloy", "the same ConfigMap", "the nodes' journals, beside kubernetes.alloy"),
    Asset("collector/config.yaml", "/etc/otelcol-contrib/config.yaml", "the OpenTelemetry Collector instead of Alloy"),
    Asset("loki/config.yaml", "/etc/loki/config.yaml", "Loki for the hub's logs"),
    Asset("openbao/openbao.hcl", "/etc/openbao/openbao.hcl", "an OpenBao server on loopback"),
    Asset("openbao/obs-hub-policy.hcl", "OpenBao", "the policy that lets the hub read its own secrets"),
    Asset("pipelines/reading.yaml", "the hub's configuration", "an example of a pipeline from MongoDB"),
)
"""All there are, for `obs-hub assets`. What is not below one of them does not come with the wheel."""


class UnknownAssetError(Exception):
    """There is nothing of that name."""


class ChangedFilesError(Exception):
    """Files of another content are where some would be copied to. ``files`` are those."""

    def __init__(self, files: list[Path]) -> None:
        super().__init__(", ".join(map(str, files)))
        self.files = files


def files(name: str) -> list[str]:
    """Return the files that a name stands for: itself, or all below it. Raises `UnknownAssetError`.

    A name is that of an asset, or of a file or a folder within one or around some, such as ``grafana``.
    """
    wanted = name.strip("/")
    found = [each for each in _all() if each == wanted or each.startswith(f"{wanted}/")]
    if not found:
        raise UnknownAssetError(name)
    return found


def copy(name: str, target: Path, *, into: bool, overwrite: bool = False) -> dict[Path, bool]:
    """Copy what a name stands for, and return where each file is, and whether it was written or was there already.

    What is in a folder goes to the same places below ``target``. A file gets the name ``target``, or its own below it
    with ``into``. Raises `ChangedFilesError`, before anything is written, when files of another content are in the way
    and ``overwrite`` is not said; `OSError` when a file cannot be written.
    """
    wanted = name.strip("/")
    sources = {each: FOLDER / each for each in files(name)}
    targets: dict[Path, bytes] = {}
    for each, source in sources.items():
        below = Path(each).relative_to(wanted) if each != wanted else Path(Path(each).name) if into else Path()
        targets[target / below] = source.read_bytes()
    present = {path: path.read_bytes() for path in targets if path.exists()}
    changed = [path for path, content in present.items() if content != targets[path]]
    if changed and not overwrite:
        raise ChangedFilesError(changed)
    for path, content in targets.items():
        if present.get(path) != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, content, mode=mode_of(path))
    return {path: present.get(path) != content for path, content in targets.items()}


def _all() -> Iterator[str]:
    for asset in ASSETS:
        place = FOLDER / asset.name
        found = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
        yield from (path.relative_to(FOLDER).as_posix() for path in found)
