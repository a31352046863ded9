"""Redaction of texts and values: what is found in them is replaced by what it was."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import DecodeError

from gateway.processors.common.messages import ANY_VALUE
from gateway.processors.common.patterns import Pattern
from gateway.processors.common.values import MAX_DEPTH, encode
from gateway.processors.redact.config import RedactConfig
from gateway.processors.redact.detectors import DETECTORS, MARK, SECRET_KEYS, Detector, Span, is_card, keyed, plain_key

_LARGEST_CARD = 10**19
_SMALLEST_CARD = 10**12
_VERSION = re.compile(rb"\x0a.v?\d{1,9}(?:\.\d{1,9}){0,6}", re.DOTALL)
"""A text that is a version and nothing else, serialized."""


def _mark(label: str) -> str:
    return f"{MARK}{label}]"


def _pattern_detector(pattern: Pattern) -> Detector:
    # What the bytes hold says nothing about an expression that may match anything.
    def find(text: str) -> Iterator[Span]:
        yield from pattern.spans(text)

    return Detector(find, lambda _: True)


class Redactor:
    """Redacts as the settings say. It keeps nothing of what it is given."""

    def __init__(self, config: RedactConfig) -> None:
        secret = (*SECRET_KEYS, *filter(None, map(plain_key, config.secret_keys))) if "key" in config.detect else ()
        own = tuple(filter(None, map(plain_key, config.secret_keys)))
        self._secret_keys = secret or own
        detectors: dict[str, Detector] = {name: DETECTORS[name] for name in config.detect}
        if own:
            detectors["key"] = keyed(self._secret_keys)
        detectors |= {label: _pattern_detector(pattern) for label, pattern in config.patterns.items()}
        self._detectors = [(_mark(label), detector.find) for label, detector in detectors.items()]
        self._may_hold: list[Callable[[bytes], object]] = [each.may_hold for each in detectors.values()]
        self._finds_cards = "card" in config.detect
        self._allowed_values = config.allowed_values
        self._ignored_keys = frozenset(config.ignored_keys)
        self._allowed_keys = None if config.allowed_keys is None else frozenset(config.allowed_keys)

    def may_change(self, raw: bytes) -> bool:
        """Tell, by the bytes of a message, whether there might be anything to redact in it."""
        if self._allowed_keys is not None:
            return True
        return any(may_hold(raw) for may_hold in self._may_hold)

    def text(self, text: str) -> str:
        """Return a text redacted; the same object where nothing is found."""
        found: list[tuple[int, int, str]] = []
        for mark, find in self._detectors:
            for start, end in find(text):
                if not any(allowed.fullmatch(text[start:end]) for allowed in self._allowed_values):
                    found.append((start, end, mark))
        if not found:
            return text
        found.sort(key=lambda each: (each[0], -each[1]))
        pieces: list[str] = []
        behind = 0
        for start, end, mark in found:
            if start >= behind:
                pieces += text[behind:start], mark
            # What overlaps is one: where it is longer than what was found before, the rest goes with it.
            behind = max(behind, end)
        pieces.append(text[behind:])
        return "".join(pieces)

    def attributes(self, attributes: Any) -> bool:
        """Redact a repeated field of attributes. Returns whether that changed anything."""
        changed = False
        if self._allowed_keys is not None:
            others = [index for index, each in enumerate(attributes) if each.key not in self._allowed_keys]
            for index in reversed(others):
                del attributes[index]
            changed = bool(others)
        renamed = False
        for each in attributes:
            if each.key in self._ignored_keys:
                continue
            changed_value, changed_key = self._attribute(each, 0)
            changed = changed or changed_value or changed_key
            renamed = renamed or changed_key
        if renamed:
            _tell_apart(attributes)
        return changed

    def _attribute(self, attribute: Any, depth: int) -> tuple[bool, bool]:
        """Redact a key and its value. Returns whether the value changed, and whether the key did."""
        key, raw = attribute.key, attribute.value
        value = self._keyed_value(key, raw, depth)
        if value != raw:
            attribute.value = value
        new_key = self.text(key)
        if new_key is not key:
            attribute.key = new_key
        return value != raw, new_key is not key

    def _keyed_value(self, key: str, raw: bytes, depth: int) -> bytes:
        if self._secret_keys and plain_key(key).endswith(self._secret_keys):
            return _masked(raw)
        if _VERSION.fullmatch(raw) and key.endswith("version"):  # which an address may look like
            return raw
        return self.value(raw, depth)

    def value(self, raw: bytes, depth: int = 0) -> bytes:
        """Return a serialized value redacted; an equal one where nothing is found."""
        if not raw:
            return raw
        if depth >= MAX_DEPTH:
            raise DecodeError("values are nested too deeply")
        message = ANY_VALUE.FromString(raw)
        match message.WhichOneof("value"):
            case "string_value":
                text = message.string_value
                redacted = self.text(text)
                return raw if redacted is text else encode(redacted)
            case "int_value":
                return encode(_mark("card")) if self._is_card(message.int_value) else raw
            case "double_value":
                number = message.double_value
                whole = int(number) if _SMALLEST_CARD <= number < _LARGEST_CARD and number.is_integer() else 0
                return encode(_mark("card")) if self._is_card(whole) else raw
            case "bytes_value":
                # Whatever of it is ASCII can be read by whoever looks.
                text = message.bytes_value.decode("latin-1")
                redacted = self.text(text)
                return raw if redacted is text else encode(redacted.encode("latin-1"))
            case "array_value":
                values = message.array_value.values
                redacted_values = [self.value(each, depth + 1) for each in values]
                if redacted_values == list(values):
                    return raw
                values[:] = redacted_values
            case "kvlist_value":
                if not self._mapping(message.kvlist_value.values, depth):
                    return raw
            case _:
                return raw
        return bytes(message.SerializeToString())

    def _mapping(self, values: Any, depth: int) -> bool:
        changed = renamed = False
        for each in values:
            changed_value, changed_key = self._attribute(each, depth + 1)
            changed = changed or changed_value or changed_key
            renamed = renamed or changed_key
        if renamed:
            _tell_apart(values)
        return changed

    def _is_card(self, number: int) -> bool:
        return self._finds_cards and _SMALLEST_CARD <= number < _LARGEST_CARD and is_card(str(number))


_SECRET = encode(_mark("key"))


def _masked(raw: bytes) -> bytes:
    """Return what stands in place of a secret; what is empty stays."""
    if not raw or raw == b"\x0a\x00":
        return raw
    return _SECRET


def _tell_apart(attributes: Any) -> None:
    """Give attributes whose keys are redacted, and now equal, a number each."""
    seen: dict[str, int] = {}
    for each in attributes:
        count = seen[each.key] = seen.get(each.key, 0) + 1
        if count > 1:
            each.key = f"{each.key} {count}"
