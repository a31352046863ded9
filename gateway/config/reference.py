"""The reference of every setting, as Markdown tables made from the models.

``python -m gateway.config.reference docs/configuration.md`` brings that part of the document up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, SecretStr
from pydantic.fields import FieldInfo

from gateway.base.settings import format_duration, parse_size
from gateway.component import Signal
from gateway.components import COMPONENTS, Registry, usable
from gateway.config._docstrings import described
from gateway.config.service import ServiceSettings

BEGIN = "<!-- reference: made by `python -m gateway.config.reference docs/configuration.md` -->"
END = "<!-- end of reference -->"

_UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def reference(registry: Registry = COMPONENTS) -> str:
    """Return the reference: a section for each component, and one for ``service``."""
    parts = [
        *(_part(f"Receiver `{name}`", one.settings, one.signals) for name, one in usable(registry.receivers).items()),
        *(_part(f"Processor `{name}`", one.settings, one.signals) for name, one in usable(registry.processors).items()),
        *(_part(f"Exporter `{name}`", one.settings, one.signals) for name, one in usable(registry.exporters).items()),
        *(_part(f"Extension `{name}`", one.settings, one.signals) for name, one in usable(registry.extensions).items()),
        _part("`service`", ServiceSettings, frozenset()),
    ]
    return "\n".join(parts)


def insert(document: str, registry: Registry = COMPONENTS) -> str:
    """Return a document with the reference between its two markers made anew."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{reference(registry)}\n{END}{after}"


def settings_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo, str]]:
    """Yield every setting of a model with its dotted path and its description; sections before what is in them."""
    descriptions = described(model)
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        yield path, field, descriptions.get(name, "")
        for inner, step in _inner_models(field.annotation):
            yield from settings_of(inner, f"{path}{step}.")


def _part(title: str, model: type[BaseModel], signals: frozenset[Signal]) -> str:
    lines = [f"### {title}", "", _one_line(model.__doc__ or ""), ""]
    if signals:
        lines += [f"Signals: {', '.join(signal.value for signal in Signal if signal in signals)}.", ""]
    rows = [_row(*setting) for setting in settings_of(model)]
    if rows:
        lines += ["| Setting | Type | Default | |", "|---|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _row(path: str, field: FieldInfo, description: str) -> str:
    description = description or next((one.__doc__ for one, _ in _inner_models(field.annotation)), "") or ""
    cells = (f"`{path}`", _type_name(field.annotation, field.metadata), _default(field), _one_line(description))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _inner_models(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    """Yield the models inside an annotation, each with what stands between its path and its own settings'."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, ""
    elif get_origin(annotation) is Annotated or get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _inner_models(member)
    elif get_origin(annotation) in (list, tuple):
        yield from ((model, "[]" + step) for model, step in _inner_models(get_args(annotation)[0]))
    elif get_origin(annotation) is dict:
        yield from ((model, ".*" + step) for model, step in _inner_models(get_args(annotation)[1]))


def _type_name(annotation: Any, metadata: Any = ()) -> str:
    if any(isinstance(one, BeforeValidator) and one.func is parse_size for one in metadata):
        return "size"
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(args[0], args[1:])
    if origin in (Union, UnionType):
        return " or ".join("`null`" if one is type(None) else _type_name(one, metadata) for one in args)
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in args)
    if origin in (list, tuple):
        return f"list of {_type_name(args[0])}"
    if origin is dict:
        return f"mapping of {_type_name(args[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)).lower())


_NAMES = {str: "text", int: "number", float: "number", bool: "boolean", timedelta: "duration", SecretStr: "secret text"}


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    match value:
        case None:
            return "`null`"
        case BaseModel():
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case timedelta():
            return f"`{format_duration(value)}`"
        case int() if "size" in _type_name(field.annotation, field.metadata):
            unit = next(((name, size) for name, size in _UNITS if value and value % size == 0), None)
            return f"`{value // unit[1]}{unit[0]}`" if unit else f"`{value}`"
        case list() | tuple() | set() | frozenset():
            return "`[" + ", ".join(str(one) for one in value) + "]`"
        case _:
            return f"`{value}`"


def _one_line(text: str) -> str:
    """Return a docstring as one line of Markdown."""
    return " ".join(text.split(".. code-block::")[0].split()).replace("``", "`")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        Path(argument).write_text(insert(Path(argument).read_text(encoding="utf-8")), encoding="utf-8")
