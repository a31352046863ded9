"""What can be done to a list of attributes: the actions of the processors ``attributes`` and ``resource``."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from typing import Any, Literal

from pydantic import Field, SecretStr, model_validator

from gateway.base.settings import Settings
from gateway.otlp.wire_format import length_delimited
from gateway.processors.common.config import PatternText
from gateway.processors.common.messages import KEY_VALUE
from gateway.processors.common.values import as_text, decode, encode

Scalar = bool | int | float | str

_TAKES_VALUE = ("insert", "update", "upsert")


class ActionSettings(Settings):
    """One thing that is done to attributes. They are done in the order in which they are written."""

    action: Literal["insert", "update", "upsert", "delete", "rename", "hash"]
    """``insert``: where there is none of that key. ``update``: where there is one. ``upsert``: either way. ``delete``:
    take it away. ``rename``: give it the key ``to``, and replace what has that. ``hash``: put SHA-256 of its value in
    its place, in hexadecimal; with a ``hash_secret``, HMAC-SHA-256."""
    key: str | None = Field(default=None, min_length=1)
    """The attribute's key."""
    pattern: PatternText | None = None
    """In place of ``key``, for ``delete`` and ``hash``: all attributes whose keys match as a whole."""
    value: Scalar | list[Scalar] | None = None
    """The value to put in."""
    from_attribute: str | None = None
    """In place of ``value``: the key of an attribute beside it, whose value it gets; nothing is done where there is
    none."""
    to: str | None = Field(default=None, min_length=1)
    """For ``rename``: the new key."""

    @model_validator(mode="after")
    def _goes_together(self) -> ActionSettings:
        if (self.key is None) == (self.pattern is None):
            raise ValueError("expected key or pattern, one of them")
        if self.pattern is not None and self.action not in ("delete", "hash"):
            raise ValueError(f"expected key for {self.action}; pattern is for delete and hash")
        given = (self.value is not None) + (self.from_attribute is not None)
        if self.action in _TAKES_VALUE and given != 1:
            raise ValueError(f"expected value or from_attribute for {self.action}, one of them")
        if self.action not in _TAKES_VALUE and given:
            raise ValueError(f"value and from_attribute are for insert, update and upsert, not for {self.action}")
        if (self.to is not None) != (self.action == "rename"):
            raise ValueError("expected to, the new key, for rename and for nothing else")
        return self


_Action = Callable[[Any], bool]
"""Does something to the attributes of a message, and returns whether that changed them."""


class Actions:
    """Actions, ready to be done to attributes."""

    def __init__(
        self, settings: Iterable[ActionSettings], secret: SecretStr | None, field_number: int | None = None
    ) -> None:
        """``field_number`` is that of the attributes in the messages that have them, where it is one and the same."""
        settings = list(settings)
        key = None if secret is None else secret.get_secret_value().encode()
        self._actions = [_made(each, key) for each in settings]
        # Where every action needs an attribute to be there, what does not hold the bytes of any key stays as it is.
        needed = [_needs(each) for each in settings]
        self._needles = None if None in needed else [each for each in needed if each is not None]
        self._appended = None if field_number is None else _appended(settings, field_number)

    def may_change(self, raw: bytes) -> bool:
        """Tell, by the bytes of what has the attributes, whether any action might do something."""
        return self._needles is None or any(needle in raw for needle in self._needles)

    def appended(self, raw: bytes) -> bytes | None:
        """Return the fields to put behind a message that lacks all of the keys; None where more is to be done.

        A message goes on where its bytes end, so that this needs no writing of what is there.
        """
        if self._appended is None:
            return None
        added, keys = self._appended
        return None if any(key in raw for key in keys) else added

    def apply(self, attributes: Any) -> bool:
        """Do them to a repeated field of attributes. Returns whether that changed anything."""
        changed = False
        for action in self._actions:
            changed = action(attributes) or changed
        return changed


def _needs(settings: ActionSettings) -> bytes | None:
    if settings.action in ("insert", "upsert"):
        return settings.from_attribute.encode() if settings.from_attribute is not None else None
    return settings.key.encode() if settings.key is not None else None


def _appended(settings: list[ActionSettings], field_number: int) -> tuple[bytes, list[bytes]] | None:
    """Return what actions add to a message that has none of their keys, where that is all that they do."""
    keys = [each.key for each in settings]
    if not all(each.action in ("insert", "upsert") and each.value is not None for each in settings):
        return None
    if len(set(keys)) < len(keys):
        return None
    added = [KEY_VALUE(key=each.key, value=encode(each.value)).SerializeToString() for each in settings]
    fields = b"".join(length_delimited(field_number, each) for each in added)
    return fields, [key.encode() for key in keys if key is not None]


def _made(settings: ActionSettings, secret: bytes | None) -> _Action:
    key = settings.key or ""
    match settings.action:
        case "delete":
            is_meant = _meant(settings)
            return lambda attributes: _delete(attributes, is_meant)
        case "hash":
            is_meant = _meant(settings)
            return lambda attributes: _hash(attributes, is_meant, secret)
        case "rename":
            return lambda attributes: _rename(attributes, key, settings.to or "")
        case _:
            return _putting(key, settings)


def _meant(settings: ActionSettings) -> Callable[[str], bool]:
    if settings.pattern is not None:
        return settings.pattern.fullmatch
    key = settings.key
    return lambda each: each == key


def _index(attributes: Any, key: str) -> int:
    """Return where the attribute of a key is, or -1."""
    for index, each in enumerate(attributes):
        if each.key == key:
            return index
    return -1


def _putting(key: str, settings: ActionSettings) -> _Action:
    source = settings.from_attribute
    constant = b"" if settings.value is None else encode(settings.value)
    inserts, updates = settings.action != "update", settings.action != "insert"

    def put(attributes: Any) -> bool:
        value = constant
        if source is not None:
            at = _index(attributes, source)
            if at < 0:
                return False
            value = attributes[at].value
        at = _index(attributes, key)
        if at < 0:
            if inserts:
                attributes.add(key=key, value=value)
            return inserts
        if not updates or attributes[at].value == value:
            return False
        attributes[at].value = value
        return True

    return put


def _delete(attributes: Any, is_meant: Callable[[str], bool]) -> bool:
    indexes = [index for index, each in enumerate(attributes) if is_meant(each.key)]
    for index in reversed(indexes):
        del attributes[index]
    return bool(indexes)


def _rename(attributes: Any, key: str, to: str) -> bool:
    at = _index(attributes, key)
    if at < 0 or key == to:
        return False
    attributes[at].key = to
    for index in reversed([index for index, each in enumerate(attributes) if each.key == to and index != at]):
        del attributes[index]
    return True


def _hash(attributes: Any, is_meant: Callable[[str], bool], secret: bytes | None) -> bool:
    changed = False
    for each in attributes:
        if is_meant(each.key):
            each.value = encode(hashed(as_text(decode(each.value)), secret))
            changed = True
    return changed


def hashed(text: str, secret: bytes | None) -> str:
    """Return a text's SHA-256 in hexadecimal, or its HMAC-SHA-256."""
    raw = text.encode(errors="surrogatepass")
    return hashlib.sha256(raw).hexdigest() if secret is None else hmac.digest(secret, raw, "sha256").hex()
