"""Functions of instant vectors: mathematics, time and sorting.

Most are done to each number, drop native histograms, and give what is no longer the metric: its name goes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.query.promql.labels import EMPTY, LabelSet, get, without_metadata
from gateway.query.promql.vectors import Floats, Vectors, merged

Longs = NDArray[np.int64]


def mapped(vectors: Vectors, function: Callable[[Floats], Floats]) -> Vectors:
    """Return what `function` makes of the numbers."""
    return merged(
        Vectors([without_metadata(labels) for labels in vectors.labels], function(vectors.values), vectors.numbers())
    ).filled()


def _radians(values: Floats) -> Floats:
    return values * np.pi / 180


def _degrees(values: Floats) -> Floats:
    return values * 180 / np.pi


def _sign(values: Floats) -> Floats:
    return np.where(values < 0, -1.0, np.where(values > 0, 1.0, values))


MATHEMATICS: dict[str, Callable[[Floats], Floats]] = {
    "abs": np.abs,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "deg": _degrees,
    "exp": np.exp,
    "floor": np.floor,
    "ln": np.log,
    "log10": np.log10,
    "log2": np.log2,
    "rad": _radians,
    "sgn": _sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "tan": np.tan,
    "tanh": np.tanh,
}
"""Functions of one number. Outside of what they are defined for they give NaN or an infinity.

- abs(): the absolute value. sgn(): 1, -1 or 0, the sign.
- ceil(), floor(): the nearest whole number that is not smaller, not larger.
- exp(): e to that power. ln(), log2(), log10(): the logarithm to the base of e, 2 and 10; -Inf of 0. sqrt(): the root.
- sin(), cos(), tan(), asin(), acos(), atan(): of and to angles in radians. deg(), rad(): radians to degrees, and back.
- sinh(), cosh(), tanh(), asinh(), acosh(), atanh(): the hyperbolic ones.
"""


def rounded(vectors: Vectors, nearest: Floats) -> Vectors:
    """round(): to the nearest multiple of `nearest`; from the middle, up."""
    inverse = 1.0 / nearest
    return mapped(vectors, lambda values: np.floor(values * inverse + 0.5) / inverse)


def clamped(vectors: Vectors, low: Floats, high: Floats) -> Vectors:
    """clamp(), clamp_min(), clamp_max(): not less than `low` nor more than `high`; nothing where high < low."""
    result = mapped(vectors, lambda values: np.maximum(low, np.minimum(high, values)))
    result.present = result.present & ~(high < low)
    return result.filled()


def scalar_of(vectors: Vectors) -> Floats:
    """scalar(): the number of a vector with one; NaN where there is none or more."""
    numbers = vectors.numbers()
    one = numbers.sum(axis=0) == 1
    total: Floats = np.where(numbers, vectors.values, 0.0).sum(axis=0, initial=-0.0)
    return np.where(one, total, np.nan)


def vector_of(scalar: Floats) -> Vectors:
    """vector(): a scalar as a vector with one element without labels."""
    return Vectors([EMPTY], scalar[None, :].copy(), np.ones((1, len(scalar)), bool))


def absent(vectors: Vectors, labels: LabelSet, steps: int) -> Vectors:
    """absent(): 1 where a vector has no element, with the labels that its selector fixes."""
    missing = np.logical_not(vectors.present.any(axis=0)) if vectors.labels else np.ones(steps, bool)
    return Vectors([labels], np.ones((1, steps)), missing[None, :]).filled()


# Dates.

_DAY = 86_400


def _dates(seconds: Floats) -> tuple[Longs, NDArray[np.datetime64], NDArray[np.bool_]]:
    """Return whole seconds, days, and where `seconds` are a time of the calendar."""
    there = np.isfinite(seconds) & (np.abs(seconds) < 2.0**55)
    whole = np.trunc(np.where(there, seconds, 0)).astype(np.int64)
    return whole, (whole // _DAY).astype("datetime64[D]"), there


def _of_dates(
    no_date: int, function: Callable[[Longs, NDArray[np.datetime64]], NDArray[np.int64]]
) -> Callable[[Floats], Floats]:
    """``no_date``: what Prometheus gives for NaN and infinities, which is the end of its calendar."""

    def of(seconds: Floats) -> Floats:
        whole, days, there = _dates(seconds)
        return np.where(there, function(whole, days), float(no_date))

    return of


def _start_of_month(days: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    return days.astype("datetime64[M]").astype("datetime64[D]")


DATES: dict[str, Callable[[Floats], Floats]] = {
    "minute": _of_dates(30, lambda seconds, _: seconds // 60 % 60),
    "hour": _of_dates(15, lambda seconds, _: seconds // 3600 % 24),
    "day_of_week": _of_dates(0, lambda seconds, _: (seconds // _DAY + 4) % 7),
    "day_of_month": _of_dates(4, lambda _, days: (days - _start_of_month(days)).astype(np.int64) + 1),
    "day_of_year": _of_dates(
        339, lambda _, days: (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64) + 1
    ),
    "days_in_month": _of_dates(
        31,
        lambda _, days: ((days.astype("datetime64[M]") + 1).astype("datetime64[D]") - _start_of_month(days)).astype(
            np.int64
        ),
    ),
    "month": _of_dates(12, lambda _, days: days.astype("datetime64[M]").astype(np.int64) % 12 + 1),
    "year": _of_dates(292_277_026_596, lambda _, days: days.astype("datetime64[Y]").astype(np.int64) + 1970),
}
"""Functions of a time in seconds since the epoch, in UTC; without an argument, of the time of the step.

- year(), month() (1 to 12), hour() (0 to 23), minute() (0 to 59).
- day_of_week(): 0 (Sunday) to 6. day_of_month(): 1 to 31. day_of_year(): 1 to 366. days_in_month(): 28 to 31.
"""


# Order: it is seen in the results of instant queries alone.


def sorted_by_value(vectors: Vectors, *, descending: bool) -> Vectors:
    """sort(), sort_desc(): the numbers in order, NaN last. Native histograms are left out."""
    numbers = Vectors(vectors.labels, vectors.values, vectors.numbers()).filled()
    if numbers.values.shape[1] != 1:
        return numbers
    column = numbers.values[:, 0]
    return numbers.take(np.argsort(-column if descending else column, kind="stable"))


def sorted_by_label(vectors: Vectors, names: Sequence[str], *, descending: bool) -> Vectors:
    """sort_by_label(), sort_by_label_desc(): by the values of labels, numbers in them by their size, then by all."""
    if vectors.values.shape[1] != 1:
        return vectors

    def compared(one: int, two: int) -> int:
        first, second = vectors.labels[one], vectors.labels[two]
        for name in names:
            a, b = get(first, name), get(second, name)
            if a != b:
                return -1 if _natural_less(a, b) else 1
        return (first > second) - (first < second)

    rows = sorted(range(len(vectors.labels)), key=functools.cmp_to_key(compared), reverse=descending)
    return vectors.take(rows)


def _natural_less(one: str, two: str) -> bool:
    """Return whether `one` comes before `two` where digits in a row are a number."""
    chunks_one, chunks_two = _chunks(one), _chunks(two)
    for a, b in zip(chunks_one, chunks_two, strict=False):
        if a == b:
            continue
        if a.isdecimal() and b.isdecimal():
            if int(a) != int(b):
                return int(a) < int(b)
            if len(a) != len(b):
                return len(a) < len(b)
        return a < b
    return len(chunks_one) < len(chunks_two)


def _chunks(text: str) -> list[str]:
    chunks: list[str] = []
    for char in text:
        digit = "0" <= char <= "9"
        if chunks and ("0" <= chunks[-1][-1] <= "9") == digit:
            chunks[-1] += char
        else:
            chunks.append(char)
    return chunks


def scalar_pair(name: str, one: Floats, two: Floats) -> Floats:
    """max_of(), min_of(): the larger or smaller of two scalars; NaN where one is, but for an infinity that wins."""
    wins = math.inf if name == "max_of" else -math.inf
    result = np.maximum(one, two) if name == "max_of" else np.minimum(one, two)
    return np.where((one == wins) | (two == wins), wins, result)
