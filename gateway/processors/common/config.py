"""The types that processors' settings are made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from gateway.processors.common.conditions import Condition
from gateway.processors.common.patterns import Pattern


def _condition(value: object) -> Condition:
    if isinstance(value, Condition):
        return value
    if not isinstance(value, str):
        raise ValueError("expected a condition, such as 'severity < warn'")
    return Condition(value)


def _pattern(value: object) -> Pattern:
    if isinstance(value, Pattern):
        return value
    if not isinstance(value, str):
        raise ValueError("expected a regular expression")
    return Pattern(value)


def _text(value: Any) -> str:
    text: str = value.text
    return text


ConditionText = Annotated[
    Condition,
    PlainValidator(_condition),
    PlainSerializer(_text, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["severity < warn"]}),
]
"""A `Condition`, written as text."""

PatternText = Annotated[
    Pattern,
    PlainValidator(_pattern),
    PlainSerializer(_text, return_type=str),
    WithJsonSchema({"type": "string", "format": "regex"}),
]
"""A `Pattern`, written as text."""
