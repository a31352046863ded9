"""Numbers and texts as Prometheus has them in messages and labels."""

from __future__ import annotations

import json
import math
from decimal import Decimal

from gateway.query.numbers_text import shortest


def short(value: float) -> str:
    """Return the shortest decimal that is `value`, with an exponent where that is shorter (Go's ``%g``)."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    mantissa, _, exponent = f"{Decimal(repr(value)).normalize():e}".partition("e")
    power = int(exponent)
    if -4 <= power < 21:
        return shortest(value)
    return f"{mantissa}e{'-' if power < 0 else '+'}{abs(power):02}"


def quoted(text: str) -> str:
    """Return a text in quotes, with what is no UTF-8 as ``\\xNN``."""
    parts = json.dumps(text, ensure_ascii=False)
    return "".join(f"\\x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else char for char in parts)


def bad_quantile(value: float) -> str:
    """Return the warning of a quantile that is not between 0 and 1."""
    return f"quantile value should be between 0 and 1, got {short(value)}"
