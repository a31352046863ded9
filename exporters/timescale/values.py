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
import struct
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from opentelemetry.proto.common.v1 import common_pb2

from exporters.timescale import wire

_T = TypeVar("_T")

_json_string = msgspec.json.Encoder().encode


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


KVLIST = b"\x32"
"""What an ``AnyValue`` begins with that is a ``kvlist_value``."""


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


# -- what is met over and over -----------------------------------------------------------------------------------------


class _Keys(dict[bytes, bytes]):
    """Keys as JSON, with the colon behind them, by their UTF-8. Forgotten all at once when there are many."""

    _MOST = 10_000

    def __missing__(self, raw: bytes) -> bytes:
        """Encode a key. Raises `UnicodeDecodeError`."""
        key = string_json(raw.decode()) + b":"
        if len(self) >= self._MOST:
            self.clear()
        self[raw] = key
        return key


_KEYS = _Keys()
_unpack_double = struct.Struct("<d").unpack_from


_is_plain = re.compile(rb"[ !#-\[\]-~]*").fullmatch
"""Matches a text that is JSON as it is, between quotation marks."""


def short_text(raw: bytes) -> tuple[bytes, bytes] | None:
    """Return key and text of a serialized ``KeyValue`` whose value is a short text, as most are.

    None for any other, and for what an encoder wrote in another order.
    """
    size = len(raw)
    if 6 <= size < 130 and raw[0] == 0x0A and (at := raw[1] + 2) < size - 3:
        # The tags of the value and of the text in it, and their sizes.
        rest = size - at
        if raw[at] == 0x12 and raw[at + 1] == rest - 2 and raw[at + 2] == 0x0A and raw[at + 3] == rest - 4:
            return raw[2:at], raw[at + 4 :]
    return None


def _member(raw: bytes) -> tuple[bytes, bytes]:
    """Return the key of a serialized ``KeyValue`` as JSON, with the colon, and with its value as a member of an object.

    Raises `google.protobuf.message.DecodeError` when it is malformed.
    """
    try:
        if (found := short_text(raw)) is not None:
            key = _KEYS[found[0]]
            return key, key + string_json(found[1].decode())
        if raw[-11:-8] == b"\x12\x09\x21" and len(raw) == raw[1] + 13 < 141 and raw[0] == 0x0A:  # a double
            key = _KEYS[raw[2:-11]]
            return key, key + double_json(*_unpack_double(raw, len(raw) - 8))
    except UnicodeDecodeError:
        pass  # it is refused below, as all that is malformed
    pair = common_pb2.KeyValue.FromString(raw)
    key, content = string_json(pair.key) + b":", pair.value.string_value
    return key, key + (string_json(content) if content else any_value_json(pair.value))


class _Remembered(dict[bytes, _T]):
    """What serialized ``KeyValue`` messages mean, by their bytes.

    Telemetry repeats the same ones over and over, so most look-ups hit. Long ones are likely unique and are not kept.
    When the rest outgrows ``limit`` entries it becomes the older generation, of which is kept what is used again before
    the next one takes its place.
    """

    _LONGEST = 256

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._older: dict[bytes, _T] = {}

    def _decode(self, raw: bytes) -> _T:
        raise NotImplementedError

    def __missing__(self, raw: bytes) -> _T:
        """Decode a ``KeyValue``. Raises `google.protobuf.message.DecodeError` when it is malformed."""
        found = self._older.get(raw)
        if found is None:
            found = self._decode(raw)
        if len(raw) <= self._LONGEST and not raw.startswith(UID_ATTRIBUTE):
            self._remember(raw, found)
        return found

    def _remember(self, raw: bytes, found: _T) -> None:
        if len(self) >= self._limit:
            self._older = dict(self)
            self.clear()
        self[raw] = found


UID_ATTRIBUTE = b"\x0a\x0elog.record.uid"
"""What the attribute ``log.record.uid`` begins with. It is of one record alone: kept, it would push out what comes
again."""


class _Members(_Remembered[tuple[bytes, bytes]]):
    """What `_member` returns."""

    def _decode(self, raw: bytes) -> tuple[bytes, bytes]:
        return _member(raw)


class Fragments(_Remembered[bytes]):
    """JSON members (``"key":value``) by the serialized ``KeyValue`` they stand for.

    Texts under a key that says something else in each record are not remembered; see `_remember`. ``counted`` is how
    many attributes were asked for, and values in arrays and maps decoded, since it was set to 0.
    """

    def __init__(self, limit: int = 15_000) -> None:
        super().__init__(limit)
        self.counted = 0
        self._members = _Members(limit)
        self._of_one_record: frozenset[bytes] = frozenset([b"log.record.uid"])

    def __missing__(self, raw: bytes) -> bytes:
        """Decode a ``KeyValue``. Raises `google.protobuf.message.DecodeError` when it is malformed."""
        # Most of what is new is a text of one record alone, an id or a path, so that this decides about the speed: it
        # does what `_member` does of them, without its calls.
        size = len(raw)
        if (
            6 <= size < 130
            and raw[0] == 0x0A
            and (at := raw[1] + 2) < size - 3
            and raw[at] == 0x12
            and raw[at + 1] == size - at - 2
            and raw[at + 2] == 0x0A
            and raw[at + 3] == size - at - 4
            and _is_plain(raw, at + 4)
            and (json_key := _KEYS.get(key := raw[2:at])) is not None
            and raw not in self._older
        ):
            found = json_key + b'"' + raw[at + 4 :] + b'"'
            if key not in self._of_one_record:
                self._remember(raw, found)
            return found
        return super().__missing__(raw)

    def _remember(self, raw: bytes, found: bytes) -> None:
        if len(self) >= self._limit:
            # A key that most of these have says something else in each record: to keep that is in vain.
            keys = Counter([each[2 : each[1] + 2] for each in self])
            often = [key for key, count in keys.most_common(1) if 2 * count > self._limit]
            self._of_one_record = frozenset([b"log.record.uid", *often])
        super()._remember(raw, found)

    def _decode(self, raw: bytes) -> bytes:
        member = _member(raw)[1]
        if member[-1] in b"]}":
            self.counted += member.count(b",")  # about
        return member

    def value(self, raw: bytes) -> bytes:
        """Return a serialized ``AnyValue`` as JSON, and count the values in it.

        Raises `google.protobuf.message.DecodeError` when it is malformed.
        """
        json = self._object(raw) if raw.startswith(KVLIST) else None
        if json is None:
            json = any_value_json(common_pb2.AnyValue.FromString(raw))
        if json[0] in b"[{":
            self.counted += json.count(b",")  # about
        return json

    def _object(self, raw: bytes) -> bytes | None:
        """Return an ``AnyValue`` that is an object of JSON, as `any_value_json` does; None when it is none.

        Its members are remembered one by one: of what an application writes, many have few values.
        """
        value = wire.AnyValue.FromString(raw)
        if value.WhichOneof("value") != "kvlist_value":
            return None
        pairs = value.kvlist_value.values
        members = dict(map(self._members.__getitem__, pairs))
        json = b"{" + b",".join(sorted(members.values())) + b"}"
        if len(members) < len(pairs) or (b'"$' in json and any(key.startswith(b'"$') for key in members)):
            return None
        return json

    def object(self, attributes: Sequence[bytes]) -> bytes:
        """Return serialized attributes as a JSON object, in the order they came."""
        self.counted += len(attributes)
        return b"{" + b",".join([self[raw] for raw in wire.counted(attributes, "attributes")[:]]) + b"}"

    def canonical(self, attributes: Sequence[bytes]) -> bytes:
        """Return serialized attributes as a JSON object in an order that does not depend on theirs."""
        self.counted += len(attributes)
        return b"{" + b",".join(sorted([self[raw] for raw in wire.counted(attributes, "attributes")[:]])) + b"}"
