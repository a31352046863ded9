"""Settings of redaction."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.component.declaration import ProcessorSettings
from gateway.processors.common.config import PatternText
from gateway.processors.redact.detectors import DETECTORS

Detector = Literal["email", "token", "card", "ip", "key"]


def _label(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", name):
        raise ValueError("expected a short name of small letters, such as customer_number")
    if name in DETECTORS:
        raise ValueError(f"'{name}' is built in; choose another name, and leave it out of detect to replace it")
    return name


Label = Annotated[str, AfterValidator(_label)]


class RedactConfig(ProcessorSettings):
    """Replaces mail addresses, tokens, card numbers, IP addresses and secrets by ``[redacted:email]`` and the like.

    It looks into attributes (of records, resources, scopes, events, links and exemplars), log bodies however nested,
    names of spans and events, and messages of statuses.
    """

    detect: list[Detector] = Field(default=["email", "token", "card", "ip", "key"])
    """What is looked for. ``email``; ``token``: tokens and API keys as issuers write them, JWTs, private keys and
    passwords in URLs; ``card``: card numbers, by their check digit; ``ip``: IPv4 and IPv6; ``key``: values whose key
    says that they are secret, such as ``password`` or ``authorization``, also within text (``password=…``)."""
    patterns: dict[Label, PatternText] = Field(default_factory=dict)
    """More to look for: regular expressions, each by the name that stands in place of what it finds."""
    secret_keys: list[str] = Field(default_factory=list)
    """More keys whose values are secret. Case, and ``.``, ``_`` and ``-`` make no difference."""
    ignored_keys: list[str] = Field(default_factory=list)
    """Keys of attributes that are left alone, with their values."""
    allowed_values: list[PatternText] = Field(default_factory=list)
    """Regular expressions. What was found and matches one as a whole stays, such as mail addresses of your own."""
    allowed_keys: list[str] | None = None
    """The only keys of attributes that are kept; all other attributes are taken away, of resources, too. Without it all
    are kept."""
