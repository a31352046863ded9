"""The values that ``journalctl -o json`` prints, and those of OTLP.

Source: journalctl(1), ``--output=json``: text that is not UTF-8 or has control characters is an array of bytes, a field
that occurs several times is an array of its values, and a value that is too large is null.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

MAX_DEPTH = 10
"""Objects within objects. A protobuf parser gives up at a depth of 100, and each level here is three there."""

_INT64 = 2**63


def texts(value: object) -> list[str]:
    """Return the values of a field as text. Bytes that are not UTF-8 are written ``\\xff``."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        return []
    if value and all(isinstance(each, int) for each in value):
        try:
            return [bytes(value).decode(errors="backslashreplace")]
        except ValueError:  # not bytes after all
            return []
    return [text for each in value for text in texts(each)]


def text(value: object) -> str | None:
    """Return the first value of a field as text, or None."""
    if isinstance(value, str):
        return value
    return next(iter(texts(value)), None)


def number(value: object) -> int | None:
    """Return a field as a number that fits into 63 bits, or None."""
    written = text(value)
    if written is None or not (written.isascii() and written.isdecimal()) or len(written) > 19:
        return None
    result = int(written)
    return result if result < _INT64 else None


def key_value(key: str, value: Any) -> KeyValue:
    """Make an attribute. Raises `ValueError` when it is nested too deeply."""
    return KeyValue(key=key, value=any_value(value))


def any_value(value: Any, depth: int = 0) -> AnyValue:
    """Make an OTLP value of a JSON value. Raises `ValueError` when it is nested too deeply."""
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value) if -_INT64 <= value < _INT64 else AnyValue(double_value=float(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if value is None:
        return AnyValue()
    if depth == MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    result = AnyValue()
    if isinstance(value, dict):
        items = [KeyValue(key=key, value=any_value(item, depth + 1)) for key, item in value.items()]
        result.kvlist_value.SetInParent()
        result.kvlist_value.values.extend(items)
    else:
        result.array_value.SetInParent()
        result.array_value.values.extend([any_value(item, depth + 1) for item in value])
    return result
