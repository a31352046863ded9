"""Values of telemetry, such as attributes and bodies, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def text_of(value: Any) -> str:
    """Return a value as text: what is not text already as compact JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def as_json(value: Any) -> str:
    """Return a value as one line of JSON. Floats that JSON has not become text."""
    try:
        return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(", ", ": "))
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=True)


def _finite(value: Any) -> Any:
    match value:
        case float() if value - value != 0:
            return str(value)
        case Mapping():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case _:
            return value
