"""Native histograms: one as a value, and the arithmetic of Prometheus on them.

Populations of buckets are dense arrays on either side of zero. A histogram is never changed: operations give new ones.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.query.promql import sums
from gateway.query.promql.messages import short
from gateway.query.series import CUSTOM_BOUNDS_SCHEMA, Buckets, NativeHistograms

Floats = NDArray[np.float64]

_LARGEST = 1024


class IncompatibleHistogramsError(ValueError):
    """Exponential buckets and buckets with bounds of their own have nothing in common."""


class ResetHint(IntEnum):
    """What is known of a reset of the counter between a histogram and the one before it."""

    UNKNOWN = 0
    RESET = 1
    NOT_RESET = 2
    GAUGE = 3


@dataclass(frozen=True, slots=True)
class Side:
    """Dense populations of the buckets on one side of zero; bucket ``offset + i`` has ``counts[i]``."""

    offset: int
    counts: Floats

    def at(self, offset: int, size: int) -> Floats:
        """Return the populations of `size` buckets from `offset` on, which cover all that are here."""
        counts = np.zeros(size)
        begin = self.offset - offset
        counts[begin : begin + len(self.counts)] = self.counts
        return counts

    def trimmed(self) -> Side:
        """Return the same without empty buckets at the ends."""
        populated = np.flatnonzero(self.counts)
        if not len(populated):
            return NO_BUCKETS
        first, last = int(populated[0]), int(populated[-1])
        return (
            self if last - first + 1 == len(self.counts) else Side(self.offset + first, self.counts[first : last + 1])
        )

    def reduced(self, levels: int) -> Side:
        """Return the same in buckets 2^`levels` times as wide (on a logarithmic scale)."""
        if levels <= 0 or not len(self.counts):
            return self
        targets = ((self.offset - 1 + np.arange(len(self.counts))) >> levels) + 1
        first = int(targets[0])
        return Side(first, np.bincount(targets - first, self.counts).astype(float))

    def scaled(self, factor: float) -> Side:
        """Return the same with all populations multiplied."""
        return Side(self.offset, self.counts * factor)


NO_BUCKETS = Side(0, np.zeros(0))


class Bucket(NamedTuple):
    """A populated bucket. Bounds belong to it on the side that is away from zero."""

    lower: float
    upper: float
    population: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """One native histogram, as Prometheus's float histograms: every population is a float."""

    schema: int
    zero_threshold: float
    zero_count: float
    count: float
    sum: float
    positive: Side
    negative: Side
    bounds: Floats | None = None
    """Upper bounds of all buckets but the last, with `CUSTOM_BOUNDS_SCHEMA`."""
    hint: ResetHint = ResetHint.UNKNOWN

    @property
    def custom(self) -> bool:
        """Whether the buckets have bounds of their own."""
        return self.schema == CUSTOM_BOUNDS_SCHEMA

    def bound(self, index: int) -> float:
        """Return the upper bound of a positive bucket; the lower one is that of the bucket before."""
        if self.custom:
            assert self.bounds is not None
            if index < 0:
                return -math.inf
            return float(self.bounds[index]) if index < len(self.bounds) else math.inf
        return exponential_bound(index, self.schema)

    def buckets(self) -> list[Bucket]:
        """Return the populated buckets, from the lowest to the highest."""
        found = [
            Bucket(-self.bound(index), min(-self.bound(index - 1), -self.zero_threshold), count)
            for index, count in reversed(_populated(self.negative))
        ]
        if self.zero_count > 0:
            found.append(Bucket(-self.zero_threshold, self.zero_threshold, self.zero_count))
        for index, count in _populated(self.positive):
            lower = self.bound(index - 1)
            found.append(Bucket(lower if self.custom else max(lower, self.zero_threshold), self.bound(index), count))
        return found

    def multiplied(self, factor: float) -> Histogram:
        """Return all populations and the sum multiplied; by a negative factor it is a gauge."""
        return dataclasses.replace(
            self,
            zero_count=self.zero_count * factor,
            count=self.count * factor,
            sum=self.sum * factor,
            positive=self.positive.scaled(factor),
            negative=self.negative.scaled(factor),
            hint=ResetHint.GAUGE if factor < 0 else self.hint,
        )

    def divided(self, divisor: float) -> Histogram:
        """Return all populations and the sum divided; by zero no bucket is left."""
        none = divisor == 0
        with np.errstate(all="ignore"):
            zero_count, count, total = np.array([self.zero_count, self.count, self.sum]) / divisor
            return dataclasses.replace(
                self,
                zero_count=float(zero_count),
                count=float(count),
                sum=float(total),
                positive=NO_BUCKETS if none else Side(self.positive.offset, self.positive.counts / divisor),
                negative=NO_BUCKETS if none else Side(self.negative.offset, self.negative.counts / divisor),
                hint=ResetHint.GAUGE if divisor < 0 else self.hint,
            )

    def compact(self) -> Histogram:
        """Return the same without empty buckets at the ends of both sides."""
        return dataclasses.replace(self, positive=self.positive.trimmed(), negative=self.negative.trimmed())

    def hinted(self, hint: ResetHint) -> Histogram:
        """Return the same with another hint."""
        return self if hint is self.hint else dataclasses.replace(self, hint=hint)

    def reduced(self, schema: int) -> Histogram:
        """Return the same in the wider buckets of a smaller schema."""
        if self.custom or schema >= self.schema:
            return self
        levels = self.schema - schema
        return dataclasses.replace(
            self, schema=schema, positive=self.positive.reduced(levels), negative=self.negative.reduced(levels)
        )

    def overflows(self) -> bool:
        """Return whether any part is infinite."""
        parts = (self.zero_count, self.count, self.sum)
        return any(map(math.isinf, parts)) or bool(
            np.isinf(self.positive.counts).any() or np.isinf(self.negative.counts).any()
        )

    def equals(self, other: Histogram) -> bool:
        """Return whether both have the same buckets with the same populations, count and sum (a NaN equals itself)."""
        mine, theirs = self.compact(), other.compact()
        numbers = np.array([(one.zero_threshold, one.zero_count, one.count, one.sum) for one in (mine, theirs)])
        return (
            self.schema == other.schema
            and bool((numbers[0].view(np.uint64) == numbers[1].view(np.uint64)).all())
            and same_bounds(self, other)
            and all(
                one.offset == two.offset and np.array_equal(one.counts, two.counts)
                for one, two in ((mine.positive, theirs.positive), (mine.negative, theirs.negative))
            )
        )

    def text(self) -> str:
        """Return the histogram as Prometheus writes it where a string is needed."""
        parts = [f"count:{short(self.count)}", f"sum:{short(self.sum)}"]
        buckets = self.buckets()
        if self.zero_count < 0:
            below = sum(bucket.upper <= 0 for bucket in buckets)
            buckets.insert(below, Bucket(-self.zero_threshold, self.zero_threshold, self.zero_count))
        for bucket in buckets:
            opening, closing = "[" if bucket.lower < 0 else "(", "]" if bucket.upper > 0 else ")"
            bounds = f"{short(bucket.lower)},{short(bucket.upper)}"
            parts.append(f"{opening}{bounds}{closing}:{short(bucket.population)}")
        return "{" + ", ".join(parts) + "}"


def _populated(side: Side) -> list[tuple[int, float]]:
    indexes = np.flatnonzero(side.counts)
    return list(zip((indexes + side.offset).tolist(), side.counts[indexes].tolist(), strict=True))


def exponential_bound(index: int, schema: int) -> float:
    """Return the upper bound of bucket `index`: 2^(index · 2^-schema). The last bucket with a finite one ends at the
    largest float, the one above it is infinite."""
    if schema <= 0:
        exponent = index << -schema
        if exponent == _LARGEST:
            return float(np.finfo(np.float64).max)
        return math.ldexp(1.0, exponent) if exponent < _LARGEST else math.inf
    power, part = index >> schema, index & ((1 << schema) - 1)
    if part == 0 and power == _LARGEST:
        return float(np.finfo(np.float64).max)
    return math.ldexp(2.0 ** (part / (1 << schema)), power) if power < _LARGEST else math.inf


def histograms_of(native: NativeHistograms, rows: NDArray[np.intp] | Sequence[int]) -> list[Histogram]:
    """Return some rows of native histograms in columns as values."""

    index = np.asarray(rows, np.intp)

    def sides(buckets: Buckets) -> list[Side]:
        parts = zip(
            buckets.offsets[index].tolist(),
            buckets.starts[index].tolist(),
            buckets.starts[index + 1].tolist(),
            strict=True,
        )
        counts = buckets.counts
        return [Side(offset, counts[first:last]) if last > first else NO_BUCKETS for offset, first, last in parts]

    count = len(index)
    return [
        Histogram(*parts)
        for parts in zip(
            native.schemas[index].tolist(),
            native.zero_thresholds[index].tolist(),
            native.zero_counts[index].tolist(),
            native.counts[index].tolist(),
            native.sums[index].tolist(),
            sides(native.positive),
            sides(native.negative),
            [None] * count if native.bounds is None else [native.bounds[row] for row in index.tolist()],
            [ResetHint.UNKNOWN] * count if native.hints is None else map(ResetHint, native.hints[index].tolist()),
            strict=True,
        )
    ]


def same_bounds(one: Histogram, two: Histogram) -> bool:
    """Return whether both have the same bounds of their own, or none."""
    if one.bounds is None or two.bounds is None:
        return one.bounds is two.bounds
    return np.array_equal(one.bounds, two.bounds)


class Combined(NamedTuple):
    """Two histograms added or subtracted, and what happened on the way."""

    result: Histogram
    collision: bool
    """One says that the counter was reset, the other that it was not."""
    reconciled: bool
    """Their bounds differed; what both have was kept."""


def added(one: Histogram, two: Histogram) -> Combined:
    """Return the sum. Raises `IncompatibleHistogramsError`."""
    return _combined(one, two, 1.0)


def subtracted(one: Histogram, two: Histogram) -> Combined:
    """Return the difference. Raises `IncompatibleHistogramsError`."""
    return _combined(one, two, -1.0)


def _combined(one: Histogram, two: Histogram, sign: float) -> Combined:
    aligned = align(one, two)
    one, two = aligned.one, aligned.two
    result = dataclasses.replace(
        one,
        zero_count=one.zero_count + sign * two.zero_count,
        count=one.count + sign * two.count,
        sum=one.sum + sign * two.sum,
        positive=Side(one.positive.offset, one.positive.counts + sign * two.positive.counts),
        negative=Side(one.negative.offset, one.negative.counts + sign * two.negative.counts),
    )
    return Combined(result, aligned.collision, aligned.reconciled)


class Aligned(NamedTuple):
    """Two histograms with the same buckets; the first has the hint that their sum has."""

    one: Histogram
    two: Histogram
    collision: bool
    reconciled: bool


def align(one: Histogram, two: Histogram) -> Aligned:
    """Return both with the same schema, zero threshold, bounds and extent. Raises `IncompatibleHistogramsError`."""
    if one.custom != two.custom:
        raise IncompatibleHistogramsError
    hint, collision = _hint_of_both(one.hint, two.hint)
    reconciled = not same_bounds(one, two)
    if reconciled:
        assert one.bounds is not None
        assert two.bounds is not None
        common = np.intersect1d(one.bounds, two.bounds)
        one, two = _rebucketed(one, common), _rebucketed(two, common)
    elif not one.custom:
        one, two = _same_zero(one, two)
        schema = min(one.schema, two.schema)
        one, two = one.reduced(schema), two.reduced(schema)
    if one.positive.offset != two.positive.offset or len(one.positive.counts) != len(two.positive.counts):
        first, second = _same_extent(one.positive, two.positive)
        one, two = dataclasses.replace(one, positive=first), dataclasses.replace(two, positive=second)
    if one.negative.offset != two.negative.offset or len(one.negative.counts) != len(two.negative.counts):
        first, second = _same_extent(one.negative, two.negative)
        one, two = dataclasses.replace(one, negative=first), dataclasses.replace(two, negative=second)
    return Aligned(one.hinted(hint), two, collision, reconciled)


def _hint_of_both(one: ResetHint, two: ResetHint) -> tuple[ResetHint, bool]:
    if one is two:
        return one, False
    if ResetHint.GAUGE in (one, two):
        return ResetHint.GAUGE, False
    return ResetHint.UNKNOWN, ResetHint.UNKNOWN not in (one, two)


def _same_extent(one: Side, two: Side) -> tuple[Side, Side]:
    sides = [side for side in (one, two) if len(side.counts)]
    if not sides:
        return NO_BUCKETS, NO_BUCKETS
    offset = min(side.offset for side in sides)
    size = max(side.offset + len(side.counts) for side in sides) - offset
    return tuple(  # type: ignore[return-value]
        Side(offset, side.at(offset, size) if len(side.counts) else np.zeros(size)) for side in (one, two)
    )


def _rebucketed(histogram: Histogram, bounds: Floats) -> Histogram:
    """Return a histogram with fewer bounds, all of which it has."""
    assert histogram.bounds is not None
    targets = np.append(np.searchsorted(bounds, histogram.bounds), len(bounds))
    side = histogram.positive
    counts = np.bincount(
        targets[side.offset : side.offset + len(side.counts)], side.counts, minlength=len(bounds) + 1
    ).astype(float)
    return dataclasses.replace(histogram, bounds=bounds, positive=Side(0, counts))


def _same_zero(one: Histogram, two: Histogram) -> tuple[Histogram, Histogram]:
    """Return both with a zero bucket that is wide enough for both, and ends within no populated bucket."""
    while one.zero_threshold != two.zero_threshold:
        if one.zero_threshold > two.zero_threshold:
            two = _zero_widened(two, one.zero_threshold)
        if two.zero_threshold > one.zero_threshold:
            one = _zero_widened(one, two.zero_threshold)
    return one, two


def _zero_widened(histogram: Histogram, threshold: float) -> Histogram:
    """Return a histogram whose zero bucket reaches to `threshold`, or to the end of the populated bucket it is in."""
    while True:
        count, lost, wider = histogram.zero_count, 0.0, threshold
        sides = []
        for side in (histogram.positive, histogram.negative):
            counts = side.counts.copy()
            for position, population in enumerate(side.counts.tolist()):
                index = side.offset + position
                if histogram.bound(index - 1) >= threshold:
                    break
                count, lost = sums.add_one(population, count, lost)
                counts[position] = 0
                if histogram.bound(index) > threshold:
                    if population:
                        wider = max(wider, histogram.bound(index))
                    break
            sides.append(Side(side.offset, counts).trimmed())
        if wider == threshold:
            return dataclasses.replace(
                histogram, zero_count=count, zero_threshold=threshold, positive=sides[0], negative=sides[1]
            )
        threshold = wider


def was_reset(histogram: Histogram, before: Histogram) -> bool:
    """Return whether the counter was reset between two histograms: by the hint, or because some population fell."""
    if histogram.hint in (ResetHint.RESET, ResetHint.NOT_RESET):
        return histogram.hint is ResetHint.RESET
    if histogram.count < before.count:
        return True
    if histogram.custom:
        if not before.custom:
            return True
    elif before.custom or histogram.schema > before.schema or histogram.zero_threshold < before.zero_threshold:
        return True
    elif histogram.zero_threshold > before.zero_threshold:
        before = _zero_widened(before, histogram.zero_threshold)
    if before.zero_threshold != histogram.zero_threshold or histogram.zero_count < before.zero_count:
        return True
    aligned = align(histogram, before)
    return bool(
        (aligned.one.positive.counts < aligned.two.positive.counts).any()
        or (aligned.one.negative.counts < aligned.two.negative.counts).any()
    )


class Total:
    """The compensated sum of histograms, one after the other."""

    __slots__ = ("_lost", "_total", "reconciled")

    def __init__(self, first: Histogram) -> None:
        self._total = first
        self._lost: Histogram | None = None
        self.reconciled = False

    def copy(self) -> Total:
        """Return one that goes on from here."""
        other = Total(self._total)
        other._lost, other.reconciled = self._lost, self.reconciled
        return other

    @property
    def total(self) -> Histogram:
        """The sum so far, without what was lost to rounding."""
        return self._total

    def add(self, histogram: Histogram) -> None:
        """Add one. Raises `IncompatibleHistogramsError`."""
        total, other, _, reconciled = align(self._total, histogram)
        self.reconciled |= reconciled
        lost = self._lost
        if lost is None:
            lost = dataclasses.replace(
                total,
                zero_count=0.0,
                count=0.0,
                sum=0.0,
                positive=Side(total.positive.offset, np.zeros(len(total.positive.counts))),
                negative=Side(total.negative.offset, np.zeros(len(total.negative.counts))),
            )
        else:
            lost = align(dataclasses.replace(lost, hint=total.hint), total.multiplied(0)).one
        flat, rest = sums.add(_flat(other), _flat(total), _flat(lost))
        self._total, self._lost = _unflat(total, flat), _unflat(lost, rest)

    def scale(self, share: float) -> None:
        """Multiply the sum, and what was lost."""
        self._total = self._total.multiplied(share)
        self._lost = self._lost and self._lost.multiplied(share)

    def divide(self, divisor: float) -> None:
        """Divide the sum, and what was lost."""
        self._total = self._total.divided(divisor)
        self._lost = self._lost and self._lost.divided(divisor)

    def result(self) -> Histogram:
        """Return the sum, with what was lost to rounding."""
        return self._total if self._lost is None else added(self._total, self._lost.hinted(self._total.hint)).result


def mean_of(histograms: Sequence[Histogram]) -> tuple[Histogram, bool]:
    """Return the mean of histograms, and whether bounds were reconciled. Raises `IncompatibleHistogramsError`.

    A sum that would overflow becomes a mean that is kept up from then on.
    """
    total = Total(histograms[0])
    incremental = False
    for count, histogram in enumerate(histograms[1:], 2):
        if not incremental:
            further = total.copy()
            further.add(histogram)
            if not further.total.overflows():
                total = further
                continue
            incremental = True
            total.divide(count - 1)
        total.scale((count - 1) / count)
        total.add(histogram.divided(count))
    if not incremental and len(histograms) > 1:
        total.divide(len(histograms))
    return total.result(), total.reconciled


def sum_of(histograms: Sequence[Histogram]) -> tuple[Histogram, bool]:
    """Return the sum of histograms, and whether bounds were reconciled. Raises `IncompatibleHistogramsError`."""
    total = Total(histograms[0])
    for histogram in histograms[1:]:
        total.add(histogram)
    return total.result(), total.reconciled


def hints_collide(histograms: Sequence[Histogram]) -> bool:
    """Return whether one says that the counter was reset, and another that it was not."""
    hints = {histogram.hint for histogram in histograms}
    return ResetHint.RESET in hints and ResetHint.NOT_RESET in hints


def _flat(histogram: Histogram) -> Floats:
    scalars = (histogram.zero_count, histogram.count, histogram.sum)
    return np.concatenate([scalars, histogram.positive.counts, histogram.negative.counts])


def _unflat(like: Histogram, flat: Floats) -> Histogram:
    zero_count, count, total = flat[:3].tolist()
    border = 3 + len(like.positive.counts)
    return dataclasses.replace(
        like,
        zero_count=zero_count,
        count=count,
        sum=total,
        positive=Side(like.positive.offset, flat[3:border]),
        negative=Side(like.negative.offset, flat[border:]),
    )
