"""Addresses in text that is shown: what opens a door is masked.

One place for all that are shown, in output, logs and errors, because each form that one of several forgets is a leak.
Connection strings of PostgreSQL have `gateway.store`.
"""

from __future__ import annotations

import re

MASK = "********"

# Up to the last @ of the word: a password may hold / and @ that nobody has encoded, and one slash may be missing.
_USER = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*:/{1,3}|\bhttps?:)[^\s'\"<>]*(?=@)", re.IGNORECASE)
_PARAMETER = re.compile(
    r"(?P<name>[?&;#][\w.-]*(?:token|passw|secret|key|signature|credential)[\w.-]*=)[^&;#\s'\"<>]+", re.IGNORECASE
)


def without_credentials(text: str) -> str:
    """Mask, in any text, what stands before the host of a URL, and parameters that are secrets by their name."""
    return _PARAMETER.sub(rf"\g<name>{MASK}", _USER.sub(rf"\g<scheme>{MASK}", text))
