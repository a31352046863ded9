"""Redaction of texts and values: what is found in them is replaced by what it was."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from gateway.processors.common.messages import ANY_VALUE
from gateway.processors.common.patterns import Pattern
from gateway.processors.common.values import MAX_DEPTH, encode
from gateway.processors.redact.config import RedactConfig
from gateway.processors.redact.detectors import DETECTORS, MARK, SECRET_KEYS, Detector, Span, is_card, keyed, plain_key

_LARGEST_LOOK = 2**20
"""Bytes of a payload up to which a quick look at all of it takes a few milliseconds at most."""

_LARGEST_CARD = 10**19
_SMALLEST_CARD = 10**12
_VERSION = re.compile(rb"\x0a.v?\d{1,9}(?:\.\d{1,9}){0,6}", re.DOTALL)
"""A text that is a version and nothing else, serialized."""


Finder = tuple[str, Callable[[str], Iterator[Span]]]
"""What stands in place of something, and what finds it."""


def _mark(label: str) -> str:
    return f"{MARK}{label}]"


def _pattern_detector(pattern: Pattern) -> Detector:
    # Without a literal, the bytes say nothing about what an expression may match.
    literal = pattern.literal.encode() if pattern.literal.isascii() else b""

    def find(text: str) -> Iterator[Span]:
        yield from pattern.spans(text)

    return Detector(find, lambda raw: literal in raw)


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
        self._detectors = [(detector.may_hold, (_mark(label), detector.find)) for label, detector in detectors.items()]
        self._finds_cards = "card" in config.detect
        self._allowed_values = config.allowed_values
        self._ignored_keys = frozenset(config.ignored_keys)
        self._allowed_keys = None if config.allowed_keys is None else frozenset(config.allowed_keys)

    def for_payload(self, payload: bytes) -> Redactor | None:
        """Return what looks only for what a payload may hold; None where nothing of it is to be changed."""
        if len(payload) > _LARGEST_LOOK:
            return self
        narrowed = copy.copy(self)
        narrowed._detectors = [each for each in self._detectors if each[0](payload)]
        return narrowed if narrowed._detectors or self._allowed_keys is not None else None

    def finders(self, raw: bytes) -> list[Finder] | None:
        """Return what is worth looking for in a message, by its bytes; None where nothing of it is to be changed."""
        found = [finder for may_hold, finder in self._detectors if may_hold(raw)]
        return found if found or self._allowed_keys is not None else None

    def text(self, text: str, finders: Sequence[Finder] | None = None) -> str:
        """Return a text redacted; the same object where nothing is found. Without ``finders`` all is looked for."""
        found: list[tuple[int, int, str]] = []
        for mark, find in [finder for _, finder in self._detectors] if finders is None else finders:
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

    def attributes(self, attributes: Any, finders: Sequence[Finder]) -> bool:
        """Redact a repeated field of attributes. Returns whether that changed anything."""
        changed = False
        if self._allowed_keys is not None:
            others = [index for index, each in enumerate(attributes) if each.key not in self._allowed_keys]
            for index in reversed(others):
                del attributes[index]
            changed = bool(others)
        ignored = self._ignored_keys
        its = [each for each in attributes if each.key not in ignored] if ignored else attributes
        return self._pairs(its, attributes, finders, 0) or changed

    def _pairs(self, pairs: Iterable[Any], all_of_them: Any, finders: Sequence[Finder], depth: int) -> bool:
        """Redact keys and values. Returns whether that changed any."""
        changed = renamed = False
        for each in pairs:
            key, raw = each.key, each.value
            value = self._keyed_value(key, raw, finders, depth)
            if value != raw:
                each.value = value
                changed = True
            new_key = self.text(key, finders)
            if new_key is not key:
                each.key = new_key
                renamed = True
        if renamed:
            _tell_apart(all_of_them)
        return changed or renamed

    def _keyed_value(self, key: str, raw: bytes, finders: Sequence[Finder], depth: int) -> bytes:
        if self._secret_keys and plain_key(key).endswith(self._secret_keys):
            return _masked(raw)
        if key.endswith("version") and _VERSION.fullmatch(raw):  # which an address may look like
            return raw
        return self.value(raw, finders, depth)

    def value(self, raw: bytes, finders: Sequence[Finder], depth: int = 0) -> bytes:
        """Return a serialized value redacted; an equal one where nothing is found."""
        if not raw:
            return raw
        if depth >= MAX_DEPTH:
            raise DecodeError("values are nested too deeply")
        message = ANY_VALUE.FromString(raw)
        match message.WhichOneof("value"):
            case "string_value":
                text = message.string_value
                redacted = self.text(text, finders)
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
                redacted = self.text(text, finders)
                return raw if redacted is text else encode(redacted.encode("latin-1"))
            case "array_value":
                values = message.array_value.values
                redacted_values = [self.value(each, finders, depth + 1) for each in values]
                if redacted_values == list(values):
                    return raw
                values[:] = redacted_values
            case "kvlist_value":
                pairs = message.kvlist_value.values
                if not self._pairs(pairs, pairs, finders, depth + 1):
                    return raw
            case _:
                return raw
        return bytes(message.SerializeToString())

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
