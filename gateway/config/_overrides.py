"""What options of a command say instead of the configuration file: addresses, mostly, for a port may be taken."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gateway.components import type_of
from gateway.config._document import Document
from gateway.config.errors import Place, Problem

_PLACES: dict[str, tuple[str, str, Place]] = {
    "--otlp-grpc": ("receivers", "otlp", ("protocols", "grpc", "endpoint")),
    "--otlp-http": ("receivers", "otlp", ("protocols", "http", "endpoint")),
    "--front": ("extensions", "api", ("endpoint",)),
    "--postgres-port": ("exporters", "timescale", ("embedded_port",)),
}
"""For each option, the section and the type of the component that it is about, and the setting within."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """Values by the option that gave them; None where it was not given."""

    otlp_grpc: str | None = None
    otlp_http: str | None = None
    front: str | None = None
    postgres_port: int | None = None

    def apply(self, document: Document) -> None:
        """Put the values into a document, and note where there is no place for one."""
        for option in _PLACES:
            value = getattr(self, option.removeprefix("--").replace("-", "_"))
            if value is not None:
                _apply(document, option, value)


NO_OVERRIDES = Overrides()


def option_for(setting: Place, defined: Iterable[str]) -> str | None:
    """Return the option that says a setting (``receivers``, ``otlp``, ``protocols``, …) otherwise, if there is one.

    ``defined`` are the names of the components in its section.
    """
    section, name, *within = setting
    for option, (its_section, kind, its_place) in _PLACES.items():
        if (section, tuple(within)) == (its_section, its_place) and name == _meant(kind, defined):
            return option
    return None


def _meant(kind: str, defined: Iterable[str]) -> str | None:
    """Return the name of the component that an option is about: that named as its type is, else the only one."""
    names = [name for name in defined if type_of(name) == kind]
    return kind if kind in names else names[0] if len(names) == 1 else None


def _apply(document: Document, option: str, value: Any) -> None:
    section, kind, within = _PLACES[option]
    components = document.root.get(section)
    name = _meant(kind, components) if isinstance(components, dict) else None
    if not isinstance(components, dict) or name is None:
        known = ", ".join(sorted(components)) if isinstance(components, dict) and components else "none"
        message = f"it sets that of '{kind}' in '{section}', where there is: {known}"
        document.problems.append(Problem(option, None, (), message))
        return
    if kind == "otlp" and not components[name]:
        components[name] = {"protocols": {"grpc": None, "http": None}}  # what it serves when nothing is said
    holder: Any = components
    for step in (name, *within[:-1]):
        if holder.get(step) is None:
            holder[step] = {}
        holder = holder[step]
        if not isinstance(holder, dict):
            return  # which is found when it is checked
    holder[within[-1]] = value
    document.replaced((section, name, *within), option)
