"""Aggregations: elements of a vector made one by labels, or some of them picked.

Series are sorted by their group. Where the order of additions is part of the result, the k-th series of all groups are
added together, for each k; all else is a reduction over slices of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.query.errors import ExecutionError
from gateway.query.numbers_text import shortest
from gateway.query.promql import labels as label_sets
from gateway.query.promql import sums
from gateway.query.promql.context import Context
from gateway.query.promql.hashes import label_hash
from gateway.query.promql.histogram import Histogram, IncompatibleHistogramsError, hints_collide, mean_of, sum_of
from gateway.query.promql.histogram_stacks import stacked, totals, unstacked
from gateway.query.promql.labels import LabelSet, metric_name
from gateway.query.promql.lexer import is_label_name
from gateway.query.promql.messages import bad_quantile, quoted, short
from gateway.query.promql.nodes import Aggregation
from gateway.query.promql.range_functions import nan_first, sorted_quantile
from gateway.query.promql.vectors import Bools, Floats, Objects, Vectors, cell, empty, unique
from gateway.query.series import METRIC_NAME

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Groups:
    """Series by their group: those of group g are ``order[starts[g]:starts[g + 1]]``, in the order of the vector."""

    labels: list[LabelSet]
    order: Rows
    starts: Rows

    @property
    def sizes(self) -> Rows:
        """Series of each group."""
        return np.diff(self.starts)

    def rows(self) -> Iterator[Rows]:
        """Yield the series of each group."""
        for first, last in zip(self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True):
            yield self.order[first:last]

    def ranks(self) -> Iterator[tuple[Rows, Rows]]:
        """Yield groups and one series of each: first the first of all groups, then their second ones, and so on."""
        sizes = self.sizes
        by_size = np.argsort(-sizes, kind="stable")
        for rank in range(int(sizes.max(initial=0))):
            groups = by_size[: int(np.searchsorted(-sizes[by_size], -rank, side="left"))]
            yield groups, self.order[self.starts[groups] + rank]


def grouped(all_labels: Sequence[LabelSet], names: Sequence[str], without: bool) -> Groups:
    """Return the groups of series, in the order in which they come up."""
    numbers: dict[LabelSet, int] = {}
    if not names and not without:
        group_of = [numbers.setdefault((), 0)] * len(all_labels)
    elif without:
        dropped = {*names, METRIC_NAME}
        group_of = [numbers.setdefault(label_sets.without(one, dropped), len(numbers)) for one in all_labels]
    else:
        kept = set(names)
        group_of = [numbers.setdefault(label_sets.only(one, kept), len(numbers)) for one in all_labels]
    groups = np.array(group_of, np.intp)
    starts = np.concatenate([[0], np.cumsum(np.bincount(groups, minlength=len(numbers)))]).astype(np.intp)
    return Groups(list(numbers), np.argsort(groups, kind="stable"), starts)


def aggregate(context: Context, node: Aggregation, vectors: Vectors, parameter: Floats | str | None) -> Vectors:
    """Return the aggregation `node` of `vectors`. `parameter`: a number for each step, or a text."""
    steps = vectors.values.shape[1]
    if node.operator == "count_values":
        assert isinstance(parameter, str)
        return _count_values(context, node, vectors, parameter)
    numbers = None if parameter is None or isinstance(parameter, str) else parameter
    if numbers is not None:
        _check_parameter(context, node, numbers)
    if not vectors.labels:
        return empty(steps)
    groups = grouped(vectors.labels, node.labels, node.without)
    if node.operator in _PICKS:
        assert numbers is not None
        return _PICKS[node.operator](context, node, vectors, groups, numbers)
    if node.operator == "quantile":
        assert numbers is not None
        return _quantile(context, node, vectors, groups, numbers)
    result = _REDUCTIONS[node.operator](context, node, vectors, groups)
    return result.filled()


# Sums.


def _summed(context: Context, node: Aggregation, vectors: Vectors, groups: Groups, *, mean: bool) -> Vectors:
    numbers = vectors.numbers()
    values = np.where(numbers, vectors.values, sums.NOTHING)
    present = np.logical_or.reduceat(numbers[groups.order], groups.starts[:-1], axis=0)
    if sums.whole(values):
        result = np.add.reduceat(values[groups.order], groups.starts[:-1], axis=0)
        if mean:
            result = result / np.add.reduceat(numbers[groups.order].astype(float), groups.starts[:-1], axis=0)
    else:
        total, lost = _totals(context, values, groups)
        if not mean:
            result = total + lost
        elif np.isinf(total).any():
            result = _means(context, values, numbers, groups)
        else:
            count = np.add.reduceat(numbers[groups.order].astype(float), groups.starts[:-1], axis=0)
            result = total / count + lost / count
    if vectors.histograms is None:
        return Vectors(groups.labels, result, present)
    return _summed_histograms(context, node, vectors, groups, Vectors(groups.labels, result, present), mean=mean)


def _totals(context: Context, values: Floats, groups: Groups) -> tuple[Floats, Floats]:
    """Return the sum of each group, and what it lost to rounding: added up in the order of the series."""
    shape = (len(groups.labels), values.shape[1])
    total, lost = np.full(shape, sums.NOTHING), np.zeros(shape)
    if len(groups.labels) <= groups.sizes.max(initial=0):  # few and large, or many and small: whichever is fewer turns
        for group, rows in enumerate(groups.rows()):
            context.check()
            total[group], lost[group] = sums.add_rows(values[rows], total[group], lost[group])
        return total, lost
    for number, (which, rows) in enumerate(groups.ranks()):
        if number % 256 == 0:
            context.check()
        total[which], lost[which] = sums.add(values[rows], total[which], lost[which])
    return total, lost


def _means(context: Context, values: Floats, numbers: Bools, groups: Groups) -> Floats:
    """Return the mean of each group, where some sums are infinite."""
    # Groups in the order of their size, so that those that still have a series are a slice.
    by_size = np.argsort(-groups.sizes, kind="stable")
    mean = sums.Mean((len(groups.labels), values.shape[1]))
    for number, (which, rows) in enumerate(groups.ranks()):
        if number % 256 == 0:
            context.check()
        mean.add(slice(0, len(which)), values[rows], numbers[rows])
    result = np.empty((len(groups.labels), values.shape[1]))
    result[by_size] = mean.result()
    return result


def _summed_histograms(
    context: Context, node: Aggregation, vectors: Vectors, groups: Groups, result: Vectors, *, mean: bool
) -> Vectors:
    """Put sums or means of native histograms into `result`; a group that has numbers, too, has no result there."""
    assert vectors.histograms is not None
    is_histogram = vectors.is_histogram()
    histograms: Objects = np.full(result.values.shape, None, object)
    present = result.present.copy()
    for group, rows in enumerate(groups.rows()):
        context.check()
        if not present[group].any() and _sum_alike(context, vectors, rows, is_histogram, histograms[group], mean=mean):
            present[group] = is_histogram[rows].any(axis=0)
            continue
        for step in np.flatnonzero(is_histogram[rows].any(axis=0)).tolist():
            context.check()
            if present[group, step]:
                context.warn(node.expr, "encountered a mix of histograms and floats for aggregation")
                present[group, step] = False
                continue
            own = rows[is_histogram[rows, step]]
            cells = vectors.histograms[own, step].tolist()
            try:
                histogram, reconciled = (mean_of if mean else sum_of)(cells)
            except IncompatibleHistogramsError:
                other = next(at for at, cell in enumerate(cells) if cell.custom != cells[0].custom)
                context.warn(
                    node.expr,
                    "vector contains a mix of histograms with exponential and custom buckets schemas for metric name "
                    f'"{metric_name(vectors.labels[own[other]])}"',
                )
                continue
            if hints_collide(cells):
                context.warn(node.expr, "conflicting counter resets during histogram aggregation")
            if reconciled:
                context.info(node.expr, "mismatched custom buckets were reconciled during aggregation")
            context.make_histogram(histogram)
            histograms[group, step] = histogram.compact()
            present[group, step] = True
    return Vectors(result.labels, result.values, present, histograms)


def _sum_alike(
    context: Context, vectors: Vectors, rows: Rows, is_histogram: Bools, result: Objects, *, mean: bool
) -> bool:
    """Put the sums or means of the native histograms of some series into `result`, where they are alike.

    Those of one step may differ in their schema: they meet in the buckets of the least one.
    """
    assert vectors.histograms is not None
    there = is_histogram[rows]
    of_row, of_step = np.nonzero(there)
    histograms = vectors.histograms[rows[of_row], of_step].tolist()
    if any(one.custom for one in histograms):
        return False
    least = np.full(there.shape[1], np.iinfo(np.int64).max)
    np.minimum.at(least, of_step, [one.schema for one in histograms])
    order = (np.cumsum(there, axis=0) - 1)[of_row, of_step]
    made: list[tuple[Rows, list[Histogram]]] = []
    for schema in np.unique(least[of_step]).tolist():
        which = np.flatnonzero(least[of_step] == schema)
        stack = stacked([histograms[at].reduced(schema) for at in which.tolist()])
        if stack is None:
            return False
        steps, at = np.unique(of_step[which], return_inverse=True)
        summed = totals(stack, at, order[which], len(steps), mean=mean)
        if summed is None:
            return False
        made.append((steps, unstacked(stack.layout, summed)))
    for steps, several in made:
        for step, histogram in zip(steps.tolist(), several, strict=True):
            context.make_histogram(histogram)
            result[step] = histogram
    return True


def _sum(context: Context, node: Aggregation, vectors: Vectors, groups: Groups) -> Vectors:
    """The sum of numbers, or of native histograms."""
    return _summed(context, node, vectors, groups, mean=False)


def _avg(context: Context, node: Aggregation, vectors: Vectors, groups: Groups) -> Vectors:
    """The mean of numbers, or of native histograms."""
    return _summed(context, node, vectors, groups, mean=True)


# Reductions.


def _count(context: Context, node: Aggregation, vectors: Vectors, groups: Groups) -> Vectors:
    """How many elements there are."""
    counts = np.add.reduceat(vectors.present[groups.order].astype(float), groups.starts[:-1], axis=0)
    return Vectors(groups.labels, counts, counts > 0)


def _group(context: Context, node: Aggregation, vectors: Vectors, groups: Groups) -> Vectors:
    """1 where there is an element."""
    present = np.logical_or.reduceat(vectors.present[groups.order], groups.starts[:-1], axis=0)
    return Vectors(groups.labels, np.ones(present.shape), present)


def _extreme(context: Context, node: Aggregation, vectors: Vectors, groups: Groups, ufunc: np.ufunc) -> Vectors:
    numbers = _numbers(context, node, vectors)
    values = np.where(numbers, vectors.values, np.nan)[groups.order]
    present = np.logical_or.reduceat(numbers[groups.order], groups.starts[:-1], axis=0)
    return Vectors(groups.labels, ufunc.reduceat(values, groups.starts[:-1], axis=0), present)


def _min(context: Context, node: Aggregation, vectors: Vectors, groups: Groups) -> Vectors:
    """The smallest number; NaN only where there is nothing else."""
    return _extreme(context, node, vectors, groups, np.fmin)


def _max(context: Context, node: Aggregation, vectors: Vectors, groups: Groups) -> Vectors:
    """The largest number; NaN only where there is nothing else."""
    return _extreme(context, node, vectors, groups, np.fmax)


def _stdvar(context: Context, node: Aggregation, vectors: Vectors, groups: Groups) -> Vectors:
    """The population variance of the numbers."""
    numbers = _numbers(context, node, vectors)
    shape = (len(groups.labels), vectors.values.shape[1])
    count, mean, squares = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for which, rows in groups.ranks():
        there, values = numbers[rows], vectors.values[rows]
        first = there & (count[which] == 0)
        count[which] += there
        difference = values - mean[which]
        moved = np.where(first, values, mean[which] + difference / count[which])
        further = np.where(
            first, np.where(np.isfinite(values), 0.0, np.nan), squares[which] + difference * (values - moved)
        )
        mean[which] = np.where(there, moved, mean[which])
        squares[which] = np.where(there, further, squares[which])
    return Vectors(groups.labels, squares / count, count > 0)


def _stddev(context: Context, node: Aggregation, vectors: Vectors, groups: Groups) -> Vectors:
    """The population standard deviation of the numbers."""
    result = _stdvar(context, node, vectors, groups)
    return Vectors(result.labels, np.sqrt(result.values), result.present)


def _numbers(context: Context, node: Aggregation, vectors: Vectors) -> Bools:
    """Return which cells have numbers; says so where native histograms are ignored."""
    if vectors.histograms is None:
        return vectors.present
    if vectors.is_histogram().any():
        where = node if node.operator in ("topk", "bottomk") else node.expr
        context.info(where, f"ignored histogram in {node.operator} aggregation")
    return vectors.numbers()


_REDUCTIONS: dict[str, Callable[[Context, Aggregation, Vectors, Groups], Vectors]] = {
    "avg": _avg,
    "count": _count,
    "group": _group,
    "max": _max,
    "min": _min,
    "stddev": _stddev,
    "stdvar": _stdvar,
    "sum": _sum,
}


def _quantile(context: Context, node: Aggregation, vectors: Vectors, groups: Groups, quantiles: Floats) -> Vectors:
    """The φ-quantile of the numbers, 0 to 1."""
    numbers = _numbers(context, node, vectors)
    shape = (len(groups.labels), vectors.values.shape[1])
    result, present = np.full(shape, np.nan), np.zeros(shape, bool)
    for group, rows in enumerate(groups.rows()):
        context.check()
        counts = numbers[rows].sum(axis=0)
        for count in np.unique(counts[counts > 0]).tolist():
            steps = np.flatnonzero(counts == count)
            there = numbers[np.ix_(rows, steps)].T
            values = vectors.values[np.ix_(rows, steps)].T[there].reshape(len(steps), count)
            result[group, steps] = sorted_quantile(nan_first(values), quantiles[steps])
            present[group, steps] = True
    return Vectors(groups.labels, result, present).filled()


def _check_parameter(context: Context, node: Aggregation, numbers: Floats) -> None:
    assert node.parameter is not None
    if not len(numbers):
        return
    low, high = float(np.fmin.reduce(numbers)), float(np.fmax.reduce(numbers))
    nan = bool(np.isnan(numbers).any())
    match node.operator:
        case "quantile":
            wrong = [np.nan] * nan + [high] * (high > 1) + [low] * (low < 0)
            for value in wrong:
                context.warn(node.parameter, bad_quantile(value))
        case "limit_ratio":
            if nan:
                raise ExecutionError("Ratio value is NaN")
            for value, bound in ((high, 1.0), (low, -1.0)):
                if abs(value) > 1 and value * bound > 0:
                    context.warn(
                        node.parameter,
                        f"ratio value should be between -1 and 1, got {short(value)}, capping to {short(bound)}",
                    )
        case _ if high >= 1 or nan:
            if nan:
                raise ExecutionError("Parameter value is NaN")
            if low <= -(2.0**63):
                raise ExecutionError(f"Scalar value {short(low)} underflows int64")
            if high >= 2.0**63:
                raise ExecutionError(f"Scalar value {short(high)} overflows int64")


# Some of the elements, with all of their labels.


def _picked(vectors: Vectors, chosen: Bools, rows: Rows | None = None) -> Vectors:
    result = Vectors(vectors.labels, vectors.values, chosen, vectors.histograms)
    return result.filled() if rows is None else result.take(rows)


_SORTED = 1 << 20
"""Cells that are sorted at once."""


def _extremes(context: Context, node: Aggregation, vectors: Vectors, groups: Groups, numbers: Floats) -> Vectors:
    """topk(), bottomk(): the k largest or smallest numbers, NaN last; in the result of an instant query in order."""
    there = _numbers(context, node, vectors)
    most = np.clip(np.nan_to_num(np.trunc(numbers)), 0, len(vectors.labels))
    chosen = np.zeros(there.shape, bool)
    in_order: list[Rows] = []
    for rows in groups.rows():
        width = max(_SORTED // len(rows), 1)
        for first in range(0, there.shape[1], width):
            context.check()
            steps = slice(first, first + width)
            values, own = vectors.values[rows, steps], there[rows, steps]
            nan = np.isnan(values)
            keys = np.where(nan, 0, -values if node.operator == "topk" else values)
            order = np.lexsort((keys, nan, ~own), axis=0)
            ranks = np.empty_like(order)
            np.put_along_axis(ranks, order, np.broadcast_to(np.arange(len(rows))[:, None], order.shape), axis=0)
            chosen[rows, steps] = own & (ranks < most[steps])
            if there.shape[1] == 1:
                in_order.append(rows[order[:, 0]][: int(most[0])])
    if there.shape[1] == 1:
        rows = np.concatenate(in_order)
        return _picked(vectors, chosen, rows[chosen[rows, 0]])
    return _picked(vectors, chosen)


def _limitk(context: Context, node: Aggregation, vectors: Vectors, groups: Groups, numbers: Floats) -> Vectors:
    """The first k elements of each group."""
    most = np.clip(np.nan_to_num(np.trunc(numbers)), 0, len(vectors.labels))
    chosen = np.zeros(vectors.present.shape, bool)
    for rows in groups.rows():
        there = vectors.present[rows]
        chosen[rows] = there & (np.cumsum(there, axis=0) <= most)
    return _picked(vectors, chosen)


def _limit_ratio(context: Context, node: Aggregation, vectors: Vectors, groups: Groups, numbers: Floats) -> Vectors:
    """A share of the elements, by the hash of their labels: the same ones each time. A negative share is all others."""
    ratio = np.clip(numbers, -1.0, 1.0)
    offsets = np.array([label_hash(one) for one in vectors.labels], np.float64)[:, None] / float(2**64 - 1)
    picks = ((ratio >= 0) & (offsets < ratio)) | ((ratio < 0) & (offsets >= 1.0 + ratio))
    return _picked(vectors, vectors.present & picks)


_PICKS: dict[str, Callable[[Context, Aggregation, Vectors, Groups, Floats], Vectors]] = {
    "bottomk": _extremes,
    "limit_ratio": _limit_ratio,
    "limitk": _limitk,
    "topk": _extremes,
}


def _count_values(context: Context, node: Aggregation, vectors: Vectors, label: str) -> Vectors:
    """count_values(): for each value how many elements have it, with the value as a label."""
    if not is_label_name(label):
        raise ExecutionError(f"invalid label name {quoted(label)}")
    steps = vectors.values.shape[1]
    kept, dropped = {*node.labels} - {label}, {*node.labels, METRIC_NAME}
    is_dropped = node.without and label in dropped
    bases: dict[LabelSet, list[int]] = {}
    for row, labels in enumerate(vectors.labels):
        base = label_sets.without(labels, dropped | {label}) if node.without else label_sets.only(labels, kept)
        bases.setdefault(base, []).append(row)
    counts: dict[LabelSet, Floats] = {}
    numbers = vectors.numbers()
    for base, rows in bases.items():
        for text, its in _occurrences(context, vectors, numbers, np.array(rows), len(counts)):
            key = base if is_dropped else tuple(sorted((*base, (label, text))))
            counts[key] = counts[key] + its if key in counts else its
    if not counts:
        return empty(steps)
    values = np.array(list(counts.values()))
    return unique(Vectors(list(counts), values, values > 0))


def _occurrences(
    context: Context, vectors: Vectors, numbers: Bools, rows: Rows, others: int
) -> Iterator[tuple[str, Floats]]:
    """Yield the values of some series, and how many of them have each, at each step.

    ``others``: how many values of other series there are already.
    """
    steps = vectors.values.shape[1]
    there, at = np.nonzero(numbers[rows])
    values, which = np.unique(vectors.values[rows[there], at], return_inverse=True)
    context.check_size(others + len(values), steps)
    table = np.bincount(which * steps + at, minlength=len(values) * steps).reshape(len(values), steps)
    yield from zip(map(shortest, values.tolist()), table.astype(float), strict=True)
    if vectors.histograms is not None:
        for row, step in np.argwhere(vectors.present[rows] & ~numbers[rows]).tolist():
            if (histogram := cell(vectors.histograms, int(rows[row]), step)) is not None:
                others += 1
                context.check_size(others + len(values), steps)
                yield histogram.text(), (np.arange(steps) == step).astype(float)
