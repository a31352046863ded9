"""THE registry: every type of receiver, processor, exporter, extension and source of documents that is installed.

They are found by entry points, ours like anybody's: a distribution that declares ``obs_hub.receivers``,
``obs_hub.processors``, ``obs_hub.exporters``, ``obs_hub.extensions`` or ``obs_hub.sources`` adds to what a
configuration may name. What one names is imported when it is asked for, so that a configuration loads nothing that it
does not mention.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import structlog

from gateway.base.settings import ExporterSettings, Settings
from gateway.component.declaration import (
    Component,
    ExporterComponent,
    ExtensionComponent,
    ProcessorComponent,
    ReceiverComponent,
    SourceComponent,
)
from gateway.component.documents import DocumentSettings

Kind = TypeVar("Kind", bound=Component)

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SETTINGS: dict[type[Component], type[Settings]] = {
    ExporterComponent: ExporterSettings,
    SourceComponent: DocumentSettings,
}
_OURS = "observability-hub"
_OUR_PACKAGES = ("exporters", "gateway", "receivers")
_PREFIX = "obs_hub."
_CHECKOUT = Path(__file__).parents[1] / "pyproject.toml"


class ComponentError(Exception):
    """A type of component is installed and cannot be used. Its text says of which distribution it is, and why."""


class Found(Mapping[str, Kind]):
    """The types of one kind that are installed, by name; each is imported when it is looked up.

    A look-up raises `ComponentError` for one that is installed and cannot be used, `KeyError` for others.
    """

    def __init__(self, kind: type[Kind], section: str) -> None:
        self._kind = kind
        self._section = section
        self._loaded: dict[str, Kind] = {}

    def __getitem__(self, name: str) -> Kind:
        if name not in self._loaded:
            self._loaded[name] = self._load(name, _installed()[self._section][name])
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_installed()[self._section])

    def __len__(self) -> int:
        return len(_installed()[self._section])

    def __contains__(self, name: object) -> bool:
        return name in _installed()[self._section]

    def _load(self, name: str, entries: Mapping[str, metadata.EntryPoint]) -> Kind:
        singular = self._section.removesuffix("s")
        if len(entries) > 1:
            claimed = " and by ".join(sorted(entries))
            raise ComponentError(f"the {singular} '{name}' is claimed by {claimed}; uninstall all but one of them")
        ((distribution, entry),) = entries.items()
        said = f"the {singular} '{name}' of the distribution {distribution} cannot be used"
        try:
            found = entry.load()
        except Exception as error:  # whatever its modules do when they are imported
            raise ComponentError(
                f"{said}: {entry.value} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(found, self._kind):
            raise ComponentError(f"{said}: {entry.value} is {found!r:.80}, no {self._kind.__name__}")
        wanted = _SETTINGS.get(self._kind, Settings)
        if not (isinstance(found.settings, type) and issubclass(found.settings, wanted)):
            raise ComponentError(f"{said}: its settings are {found.settings!r:.80}, no class of {wanted.__name__}")
        if not callable(found.create):
            raise ComponentError(f"{said}: it has no function to make one by ('create' is {found.create!r:.80})")
        return found


@functools.cache
def _installed() -> dict[str, dict[str, dict[str, metadata.EntryPoint]]]:
    """Return what is installed: by section and type, the entry point of each distribution that has one."""
    found: dict[str, dict[str, dict[str, metadata.EntryPoint]]] = {group: {} for group in _GROUPS}
    ours, seen = list(_checkout()), set[str]()
    for entry in ours:
        _note(found, _OURS, entry)
    for distribution in metadata.distributions():
        # Most have none of ours; to parse what all the others declare would take most of the time.
        text = distribution.read_text("entry_points.txt") or ""
        if f"[{_PREFIX}" not in text or (name := distribution.metadata["Name"]) in seen:
            continue
        seen.add(name)  # what is first on the path is what is imported
        if name != _OURS or not ours:  # what pip wrote down of a source tree may be older
            for entry in distribution.entry_points:
                _note(found, name, entry)
    return found


def _note(
    found: dict[str, dict[str, dict[str, metadata.EntryPoint]]], distribution: str, entry: metadata.EntryPoint
) -> None:
    types = found.get(entry.group.removeprefix(_PREFIX)) if entry.group.startswith(_PREFIX) else None
    if types is not None:
        types.setdefault(entry.name, {})[distribution] = entry


def _checkout() -> Iterator[metadata.EntryPoint]:
    """Yield what the source tree declares that this is, if it is one."""
    if not _CHECKOUT.is_file():
        return
    import tomllib

    project: dict[str, Any] = tomllib.loads(_CHECKOUT.read_text(encoding="utf-8")).get("project", {})
    if project.get("name") == _OURS:
        for group, entries in project.get("entry-points", {}).items():
            yield from (metadata.EntryPoint(name, value, group) for name, value in entries.items())


def usable(known: Mapping[str, Kind]) -> dict[str, Kind]:
    """Return the types that can be used; the log says why others cannot."""
    found = {}
    for name in known:
        try:
            found[name] = known[name]
        except ComponentError as error:
            _log.warning("a component cannot be used", component=name, reason=str(error))
    return found


@dataclass(frozen=True, slots=True)
class Registry:
    """The types of components that a configuration may name."""

    receivers: Mapping[str, ReceiverComponent] = field(default_factory=dict)
    processors: Mapping[str, ProcessorComponent] = field(default_factory=dict)
    exporters: Mapping[str, ExporterComponent] = field(default_factory=dict)
    extensions: Mapping[str, ExtensionComponent] = field(default_factory=dict)
    sources: Mapping[str, SourceComponent] = field(default_factory=dict)
    """Of documents, for the extension ``pipelines``."""


SECTIONS = ("receivers", "processors", "exporters", "extensions")
"""The sections of a configuration that hold components; also the entry points' groups, behind ``obs_hub.``."""
_GROUPS = (*SECTIONS, "sources")

COMPONENTS = Registry(
    Found(ReceiverComponent, "receivers"),
    Found(ProcessorComponent, "processors"),
    Found(ExporterComponent, "exporters"),
    Found(ExtensionComponent, "extensions"),
    Found(SourceComponent, "sources"),
)
"""What is installed."""


def import_all(component: Component) -> None:
    """Import what stands beside the factory of one of our components, which `create` imports when it is called.

    Components of others may have anything there: those import what they need when they need it.
    """
    package = component.create.__module__.rpartition(".")[0]
    if package.partition(".")[0] in _OUR_PACKAGES:
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(module.name)


def type_of(name: str) -> str:
    """Return the type of a component by its name: ``otlp`` for ``otlp`` and for ``otlp/internal``."""
    return name.partition("/")[0]


def receiver(name: str) -> ReceiverComponent:
    """Return what the receiver of that name is. Raises `ComponentError` and `KeyError`, as those below do."""
    return COMPONENTS.receivers[type_of(name)]


def processor(name: str) -> ProcessorComponent:
    """Return what the processor of that name is."""
    return COMPONENTS.processors[type_of(name)]


def exporter(name: str) -> ExporterComponent:
    """Return what the exporter of that name is."""
    return COMPONENTS.exporters[type_of(name)]


def extension(name: str) -> ExtensionComponent:
    """Return what the extension of that name is."""
    return COMPONENTS.extensions[type_of(name)]
