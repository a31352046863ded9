"""The JSON Schema of the whole file, for editors and for `obs-hub config schema`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from pydantic_core import core_schema

from gateway.base.settings import Settings, format_duration
from gateway.component.declaration import Component
from gateway.components import COMPONENTS, SECTIONS, Registry, usable
from gateway.config._docstrings import described
from gateway.config.service import ServiceSettings

_SUBSTITUTION = "Substitution"
_OWN_KEYS: dict[str, Any] = {"^x-": {"description": "Yours: for what anchors repeat, or for notes."}}


def schema(registry: Registry = COMPONENTS) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a configuration file, the settings of every component included."""
    known = {section: usable(getattr(registry, section)) for section in SECTIONS}
    components: list[Component] = [one for types in known.values() for one in types.values()]
    models: list[type[Settings]] = [ServiceSettings, *dict.fromkeys(one.settings for one in components)]
    references, definitions = models_json_schema(
        [(model, "validation") for model in models], schema_generator=_Generator
    )
    refs = {model: references[model, "validation"] for model in models}
    defs = {name: _substitutable(definition) for name, definition in definitions.get("$defs", {}).items()}
    for definition in defs.values():
        if definition.get("additionalProperties") is False:
            definition["patternProperties"] = _OWN_KEYS
    defs[_SUBSTITUTION] = {
        "type": "string",
        "pattern": r"\$\{[^{}]*\}",
        "description": "A value from elsewhere: ${env:NAME} or ${env:NAME:-default}.",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Observability Hub configuration",
        "type": "object",
        "properties": {
            "receivers": _section(known["receivers"], refs, "Where telemetry comes from."),
            "processors": _section(known["processors"], refs, "What is done to telemetry on its way."),
            "exporters": _section(known["exporters"], refs, "Where telemetry goes."),
            "extensions": _section(
                known["extensions"], refs, "What components need besides, such as who may use them."
            ),
            "service": refs[ServiceSettings],
        },
        "required": ["service"],
        "patternProperties": _OWN_KEYS,
        "additionalProperties": False,
        "$defs": defs,
    }


class _Generator(GenerateJsonSchema):
    """Writes default durations the way they are written in the file, and what settings are about."""

    def encode_default(self, dft: Any) -> Any:
        """Return a default as it stands in JSON."""
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)

    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        """Return the schema of a model, with what the docstrings of its settings say."""
        made, model = super().model_schema(schema), schema["cls"]
        for name, description in described(model).items():
            made["properties"][model.model_fields[name].alias or name].setdefault("description", description)
        return made


def _section(known: Mapping[str, Component], refs: Mapping[type[Settings], Any], description: str) -> dict[str, Any]:
    """A section of components: each ``type`` or ``type/name``, its body null where the defaults do."""
    return {
        "description": description,
        "type": ["object", "null"],
        "patternProperties": {
            f"^{re.escape(name)}(/.+)?$": {"anyOf": [refs[component.settings], {"type": "null"}]}
            for name, component in known.items()
        }
        | _OWN_KEYS,
        "additionalProperties": False,
    }


def _substitutable(schema: Any) -> Any:
    """Allow a substitution wherever a scalar is expected that is not any text anyhow."""
    if isinstance(schema, list):
        return [_substitutable(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") in ("integer", "number", "boolean") or ("enum" in schema and "properties" not in schema):
        about = {key: schema[key] for key in ("title", "description", "default") if key in schema}
        rest = {key: value for key, value in schema.items() if key not in about}
        return {**about, "anyOf": [rest, {"$ref": f"#/$defs/{_SUBSTITUTION}"}]}
    return {
        # What a setting is called, or is by default, is no schema.
        key: {name: _substitutable(one) for name, one in value.items()}
        if key in ("properties", "patternProperties")
        else value
        if key in ("default", "examples", "const", "propertyNames", "required")
        else _substitutable(value)
        for key, value in schema.items()
    }
