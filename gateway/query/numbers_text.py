"""Numbers as Prometheus writes them: the shortest decimal digits that mean the same double."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec


def shortest(value: float) -> str:
    """Return a number without an exponent, as in labels: Go's ``strconv.FormatFloat(value, 'f', -1, 64)``."""
    if not math.isfinite(value):
        return _special(value)
    text = repr(value)
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        text = _without_exponent(mantissa, int(exponent))
    return text.removesuffix(".0")


def answered(value: float) -> str:
    """Return a number as answers of the API have it: with an exponent below 1e-6 and from 1e21 on."""
    if not math.isfinite(value):
        return _special(value)
    return shortest(value) if value == 0 or 1e-6 <= abs(value) < 1e21 else repr(value)


def all_answered(values: Sequence[float]) -> list[bytes]:
    """Return numbers as `answered` does, many at once: what is written in C and split takes a third of the time."""
    if not values:
        return []
    text = msgspec.json.encode(values)[1:-1]
    found = text.replace(b".0,", b",").removesuffix(b".0").split(b",")
    if b"e" in text or b"null" in text:
        for at, each in enumerate(found):
            if b"e" in each or each == b"null":
                found[at] = answered(values[at]).encode()
    return found


def _special(value: float) -> str:
    return "NaN" if value != value else "+Inf" if value > 0 else "-Inf"


def _without_exponent(mantissa: str, exponent: int) -> str:
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.removeprefix("-").partition(".")
    fraction = "" if fraction == "0" else fraction
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{whole}{fraction}"
    return f"{sign}{whole}{fraction:0<{exponent}}"
