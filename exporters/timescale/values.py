"""How OTLP values are written as JSON, such that nothing is lost and people can read it.

=====================  ===================================================================================
OTLP ``AnyValue``      JSON
=====================  ===================================================================================
string, bool           string, boolean
int                    a number without a fraction
double                 a number with one (``5.0``); ``jsonb`` keeps it, which is what tells 5.0 from 5
array                  array
kvlist                 object, or ``{"$kvlist": [[key, value], …]}`` when a key starts with ``$`` or comes twice
bytes                  ``{"$bytes": "base64"}``
NaN, infinities, -0.0  ``{"$double": "NaN"}``, ``"Infinity"``, ``"-Infinity"``, ``"-0"``
no value               ``null``
=====================  ===================================================================================

PostgreSQL stores no NUL character in text or jsonb: it becomes U+FFFD, the replacement character.
"""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from opentelemetry.proto.common.v1 import common_pb2

from exporters.timescale import wire

_json_string = msgspec.json.encode


def without_nul(text: str) -> str:
    """Return the text with each NUL character replaced by U+FFFD."""
    return text.replace("\0", "\ufffd") if "\0" in text else text


def string_json(text: str) -> bytes:
    """Return a string as JSON."""
    return _json_string(without_nul(text))


def double_json(value: float) -> bytes:
    """Return a double as JSON that ``jsonb`` reads back as the same double, and never as an integer."""
    if value != value:
        return b'{"$double":"NaN"}'
    if math.isinf(value):
        return b'{"$double":"Infinity"}' if value > 0 else b'{"$double":"-Infinity"}'
    if value == 0 and math.copysign(1, value) < 0:
        return b'{"$double":"-0"}'
    text = repr(value)
    if "e+" in text:
        # 1e+22 would come out of jsonb as 10000000000000000000000, an integer. The shortest digits that mean the same
        # double, filled up with zeros, which jsonb does not store; all digits of 1e+308 would be 309.
        mantissa, _, exponent = text.partition("e+")
        whole, _, fraction = mantissa.partition(".")
        text = f"{whole}{fraction:0<{int(exponent)}}.0"
    return text.encode()


def _array_json(value: common_pb2.ArrayValue) -> bytes:
    return b"[" + b",".join([_any_value_json(item, item.WhichOneof("value")) for item in value.values]) + b"]"


def _kvlist_json(value: common_pb2.KeyValueList) -> bytes:
    pairs = sorted(
        (string_json(item.key), _any_value_json(item.value, item.value.WhichOneof("value"))) for item in value.values
    )
    if any(key.startswith(b'"$') for key, _ in pairs) or len({key for key, _ in pairs}) < len(pairs):
        return b'{"$kvlist":[' + b",".join([b"[%b,%b]" % pair for pair in pairs]) + b"]}"
    return b"{" + b",".join([b"%b:%b" % pair for pair in pairs]) + b"}"


_ENCODERS: dict[str | None, Callable[[Any], bytes]] = {
    "string_value": string_json,
    "bool_value": lambda value: b"true" if value else b"false",
    "int_value": lambda value: b"%d" % value,
    "double_value": double_json,
    "array_value": _array_json,
    "kvlist_value": _kvlist_json,
    "bytes_value": lambda value: b'{"$bytes":"%b"}' % b64encode(value),
}


def any_value_json(value: common_pb2.AnyValue) -> bytes:
    """Return an ``AnyValue`` as JSON (see the table above), the members of objects in the order of their keys."""
    kind = value.WhichOneof("value")
    if kind == "kvlist_value" or kind == "array_value":
        try:
            text = _as_a_whole(_plain(value, kind))
        except _OddKeyError:
            pass
        else:
            if _ESCAPED_NUL not in text:
                return text
    return _any_value_json(value, kind)


def _any_value_json(value: common_pb2.AnyValue, kind: str | None) -> bytes:
    encode = _ENCODERS.get(kind)
    return b"null" if encode is None else encode(getattr(value, kind or ""))


# -- objects and arrays as a whole -------------------------------------------------------------------------------------

# A value is made into what msgspec encodes in one go, which takes a third of the time that its parts take one by one.
# It sorts keys by their characters, and above they are sorted as JSON has them, quotation marks and all: the two differ
# by keys with what is escaped, or less than a quotation mark.

_as_a_whole = msgspec.json.Encoder(order="sorted").encode

_ODD_KEY = re.compile(r'[\0-"$\\]')
_ESCAPED_NUL = b"\\u0000"


class _OddKeyError(Exception):
    """An object that is not one of JSON, or whose members msgspec would sort otherwise."""


def _plain(value: common_pb2.AnyValue, kind: str | None) -> Any:
    """Return a value as msgspec encodes it. Raises `_OddKeyError`."""
    match kind:
        case "string_value":
            return value.string_value
        case "kvlist_value":
            return _plain_object(value.kvlist_value)
        case "array_value":
            return [each.string_value or _plain(each, each.WhichOneof("value")) for each in value.array_value.values]
        case "int_value":
            return value.int_value
        case "bool_value":
            return value.bool_value
        case _:
            return msgspec.Raw(_any_value_json(value, kind))


def _plain_object(value: common_pb2.KeyValueList) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for item in value.values:
        inner = item.value
        members[item.key] = inner.string_value or _plain(inner, inner.WhichOneof("value"))
    if len(members) < len(value.values) or _ODD_KEY.search("".join(members)):
        raise _OddKeyError
    return members


class Fragments(dict[bytes, bytes]):
    """JSON members (``"key":value``) by the serialized ``KeyValue`` they stand for.

    Telemetry repeats the same attributes over and over, so most look-ups hit. Long ones are likely unique and are not
    kept. When the rest outgrows ``limit`` entries it becomes the older generation, of which is kept what is used again
    before the next one takes its place.

    ``counted`` is how many attributes were asked for, and values in arrays and maps decoded, since it was set to 0.
    """

    _LONGEST = 256

    def __init__(self, limit: int = 15_000) -> None:
        super().__init__()
        self.counted = 0
        self._limit = limit
        self._older: dict[bytes, bytes] = {}

    def __missing__(self, raw: bytes) -> bytes:
        """Decode a ``KeyValue``. Raises `google.protobuf.message.DecodeError` when it is malformed."""
        member = self._older.get(raw)
        if member is None:
            pair = common_pb2.KeyValue.FromString(raw)
            member = string_json(pair.key) + b":" + self.value(pair.value)
        if len(raw) <= self._LONGEST:
            if len(self) >= self._limit:
                self._older = dict(self)
                self.clear()
            self[raw] = member
        return member

    def value(self, value: common_pb2.AnyValue) -> bytes:
        """Return an ``AnyValue`` as JSON, and count the values in it."""
        json = any_value_json(value)
        if json[0] in b"[{":
            self.counted += json.count(b",")  # about
        return json

    def object(self, attributes: Sequence[bytes]) -> bytes:
        """Return serialized attributes as a JSON object, in the order they came."""
        self.counted += len(attributes)
        return b"{" + b",".join([self[raw] for raw in wire.counted(attributes, "attributes")]) + b"}"

    def canonical(self, attributes: Sequence[bytes]) -> bytes:
        """Return serialized attributes as a JSON object in an order that does not depend on theirs."""
        self.counted += len(attributes)
        return b"{" + b",".join(sorted([self[raw] for raw in wire.counted(attributes, "attributes")])) + b"}"
