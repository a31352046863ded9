"""Kubernetes' own schemas of what it takes, from the package kubernetes-validate."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import validator_for

Manifest = dict[str, Any]

VERSIONS = ("1.30", "1.37")
"""The oldest Kubernetes that the charts take, and the newest that there are schemas of."""

CUSTOM = {
    "postgresql.cnpg.io/v1": {"Cluster", "ScheduledBackup"},
    "monitoring.coreos.com/v1": {"ServiceMonitor"},
    "gateway.networking.k8s.io/v1": {"HTTPRoute", "GRPCRoute"},
}
"""Kinds that an operator brings with it, of which Kubernetes has no schema."""

_REFERENCE = re.compile(r'"\$ref": ?"#/\$defs/([^"]+)"')


def is_custom(manifest: Manifest) -> bool:
    """Tell whether an operator brings a manifest's kind with it."""
    return manifest["kind"] in CUSTOM.get(manifest["apiVersion"], ())


def validator(version: str, manifest: Manifest) -> Any:
    """Return what tells whether a manifest is one that a version of Kubernetes takes; unknown fields are mistakes."""
    return _validator(version, name_of_schema(manifest))


def name_of_schema(manifest: Manifest) -> str:
    """Return the name under which the package has the schema of a manifest: ``statefulset-apps-v1``."""
    group, _, version = manifest["apiVersion"].rpartition("/")
    return "-".join(filter(None, (manifest["kind"].lower(), group.partition(".")[0], version)))


def write_schemas(version: str, names: Iterator[str] | set[str], folder: Path) -> None:
    """Write schemas into files, each with what it refers to and nothing else, as other programs want them."""
    for name in names:
        (folder / f"{name}.json").write_text(json.dumps(_schema(version, name)), "utf-8")


@functools.cache
def _validator(version: str, name: str) -> Any:
    return validator_for(_schema(version, name))


def _schema(version: str, name: str) -> Manifest:
    document = _read(version, name)
    document.pop("$id", None)
    definitions = _definitions(version)
    needed: dict[str, Any] = {}
    left = set(_REFERENCE.findall(json.dumps(document)))
    while left:
        each = left.pop()
        needed[each] = definitions[each]
        left |= set(_REFERENCE.findall(json.dumps(definitions[each]))) - set(needed)
    return {**document, "$defs": needed}


@functools.cache
def _definitions(version: str) -> Manifest:
    found: Manifest = _read(version, "_definitions")["$defs"]
    return found


def _read(version: str, name: str) -> Manifest:
    pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    file = resources.files("kubernetes_validate") / f"kubernetes-json-schema/v{version}.0-local-strict/{name}.json"
    # As one document: what is referred to is put beside it.
    found: Manifest = json.loads(file.read_text("utf-8").replace("/api/_definitions.json#/", "#/"))
    return found
