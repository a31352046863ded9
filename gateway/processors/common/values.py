"""OTLP's values as Python's, and back.

A value is text, a boolean, a whole number, a float, bytes, a list or a mapping of values, or None where there is none.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from gateway.processors.common.messages import ANY_VALUE

Value = str | bool | int | float | bytes | list[Any] | dict[str, Any] | None

_TEXT = 0x0A
"""The tag of a value that is text."""

MAX_DEPTH = 100


def decode(raw: bytes, depth: int = 0) -> Value:
    """Return a value. Raises `DecodeError` for what is none."""
    if not raw:
        return None
    # Nearly all values are short texts, which need no message.
    if raw[0] == _TEXT and len(raw) > 1 and raw[1] == len(raw) - 2 < 0x80:
        try:
            return raw[2:].decode()
        except UnicodeDecodeError as error:
            raise DecodeError(f"a text is not UTF-8: {error}") from error
    message = ANY_VALUE.FromString(raw)
    kind = message.WhichOneof("value")
    match kind:
        case None:
            return None
        case "array_value" | "kvlist_value":
            if depth >= MAX_DEPTH:
                raise DecodeError("values are nested too deeply")
            if kind == "array_value":
                return [decode(each, depth + 1) for each in message.array_value.values]
            return {each.key: decode(each.value, depth + 1) for each in message.kvlist_value.values}
        case _:
            value: Value = getattr(message, kind)
            return value


def encode(value: Value) -> bytes:
    """Return a value serialized.

    Raises `TypeError` for what OTLP has no value for, `ValueError` for a number or text that it cannot hold.
    """
    message = ANY_VALUE()
    match value:
        case None:
            return b""
        case str():
            message.string_value = value
        case bool():
            message.bool_value = value
        case int():
            message.int_value = value
        case float():
            message.double_value = value
        case bytes():
            message.bytes_value = value
        case list() | tuple():
            message.array_value.SetInParent()
            message.array_value.values.extend(map(encode, value))
        case dict():
            message.kvlist_value.SetInParent()
            for key, inner in value.items():
                message.kvlist_value.values.add(key=_key(key), value=encode(inner))
        case _:
            raise TypeError(f"{type(value).__name__} is no value of OTLP")
    return bytes(message.SerializeToString())


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key is {type(key).__name__}, not text")
    return key


def find(attributes: Any, key: str) -> Value:
    """Return the value of an attribute, None where there is none of that key."""
    for each in attributes:
        if each.key == key:
            return decode(each.value)
    return None


def as_text(value: Value) -> str:
    """Return a value as text: what is text as it is, all else as JSON writes it."""
    if isinstance(value, str):
        return value
    import base64
    import json

    def other(unknown: object) -> str:
        return base64.b64encode(unknown).decode() if isinstance(unknown, bytes) else str(unknown)

    if isinstance(value, bytes):
        return other(value)
    return json.dumps(value, ensure_ascii=False, default=other)
