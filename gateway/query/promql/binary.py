"""Binary operations: between numbers, a vector and a number, and two vectors whose elements belong together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.query.errors import ExecutionError
from gateway.query.promql import labels as label_sets
from gateway.query.promql.context import Context
from gateway.query.promql.histogram import (
    Histogram,
    IncompatibleHistogramsError,
    ResetHint,
    added,
    subtracted,
)
from gateway.query.promql.histogram_trims import trimmed
from gateway.query.promql.labels import LabelSet, without_metadata
from gateway.query.promql.nodes import COMPARISONS, TRIMS, Binary, Matching
from gateway.query.promql.vectors import Bools, Floats, Objects, Vectors, cell, empty, is_some, merged
from gateway.query.series import METRIC_NAME

Rows = NDArray[np.intp]


def _modulo(left: Floats, right: Floats) -> Floats:
    return np.fmod(left, right)


ARITHMETIC: dict[str, Callable[[Floats, Floats], Floats]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": _modulo,
    "^": np.power,
    "atan2": np.arctan2,
}
COMPARE: dict[str, Callable[[Floats, Floats], Bools]] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


def scalars(operator: str, left: Floats, right: Floats) -> Floats:
    """Return an operation between two scalars, at each step. Comparisons give 0 or 1."""
    if operator in TRIMS:
        raise ExecutionError(f'operator "{operator}" not allowed for Scalar operations')
    if operator in COMPARISONS:
        return COMPARE[operator](left, right).astype(float)
    return ARITHMETIC[operator](left, right)


@dataclass(slots=True)
class _Operands:
    """Two sides of an operation, cell by cell (n by m); `present` where both have an element."""

    left: Floats
    right: Floats
    present: Bools
    left_histograms: Objects | None
    right_histograms: Objects | None


@dataclass(slots=True)
class _Outcome:
    """What an operation gives: ``kept`` is not where a comparison fails, ``failed`` where the types do not fit."""

    values: Floats
    kept: Bools
    failed: Bools
    histograms: Objects | None = None


def _operate(context: Context, node: Binary, sides: _Operands) -> _Outcome:
    operator = node.operator
    if operator in COMPARISONS:
        result = _Outcome(sides.left, COMPARE[operator](sides.left, sides.right), np.zeros(sides.left.shape, bool))
    elif operator in TRIMS:
        numbers = sides.present
        for histograms in (sides.left_histograms, sides.right_histograms):
            if histograms is not None:
                numbers = numbers & ~is_some(histograms)
        if numbers.any():
            _incompatible(context, node, 0.0, 0.0)
        result = _Outcome(np.zeros(sides.left.shape), np.ones(sides.left.shape, bool), numbers.copy())
    else:
        values = ARITHMETIC[operator](sides.left, sides.right)
        result = _Outcome(values, np.ones(values.shape, bool), np.zeros(values.shape, bool))
    if sides.left_histograms is None and sides.right_histograms is None:
        return result
    result.kept = result.kept.copy()
    result.histograms = np.full(sides.left.shape, None, object)
    for row, step in zip(*(index.tolist() for index in np.nonzero(sides.present)), strict=True):
        if step == 0:
            context.check()
        one, two = cell(sides.left_histograms, row, step), cell(sides.right_histograms, row, step)
        if one is None and two is None:
            continue
        left: Histogram | float = float(sides.left[row, step]) if one is None else one
        right: Histogram | float = float(sides.right[row, step]) if two is None else two
        outcome = _of_histograms(context, node, left, right)
        if outcome is None:
            result.failed[row, step] = True
        else:
            result.histograms[row, step], result.kept[row, step] = outcome
            if outcome[0] is not None:
                context.make_histogram(outcome[0])
    return result


def _of_histograms(
    context: Context, node: Binary, left: Histogram | float, right: Histogram | float
) -> tuple[Histogram | None, bool] | None:
    """Return the outcome where a native histogram takes part, and whether it is kept; None where there is none."""
    operator = node.operator
    if isinstance(left, Histogram) and isinstance(right, Histogram):
        if operator in ("+", "-"):
            return _sum_of_histograms(context, node, left, right)
        if operator in ("==", "!="):
            return left, left.equals(right) is (operator == "==")
    elif isinstance(left, Histogram) and isinstance(right, float):
        if operator == "*":
            return left.multiplied(right).compact(), True
        if operator == "/":
            return left.divided(right).compact(), True
        if operator in TRIMS:
            return trimmed(left, right, below=operator == "</"), True
    elif isinstance(right, Histogram) and isinstance(left, float) and operator == "*":
        return right.multiplied(left).compact(), True
    _incompatible(context, node, left, right)
    return None


def _incompatible(context: Context, node: Binary, left: Histogram | float, right: Histogram | float) -> None:
    one, two = ("histogram" if isinstance(side, Histogram) else "float" for side in (left, right))
    context.info(
        node,
        f'incompatible sample types encountered for binary operator "{node.operator}": {one} {node.operator} {two}',
    )


def _sum_of_histograms(
    context: Context, node: Binary, left: Histogram, right: Histogram
) -> tuple[Histogram | None, bool] | None:
    name = "addition" if node.operator == "+" else "subtraction"
    try:
        result, collision, reconciled = (added if node.operator == "+" else subtracted)(left, right)
    except IncompatibleHistogramsError:
        context.warn(node, f"incompatible bucket layout encountered for binary operator {node.operator}")
        return None
    if collision:
        context.warn(node, f"conflicting counter resets during histogram {name}")
    if reconciled:
        context.info(node, f"mismatched custom buckets were reconciled during {name}")
    return (result if node.operator == "+" else result.hinted(ResetHint.GAUGE)).compact(), True


def vector_and_scalar(context: Context, node: Binary, vectors: Vectors, scalar: Floats, *, swapped: bool) -> Vectors:
    """Return an operation between each element and a scalar; `swapped`: the scalar is on the left.

    A comparison keeps elements as they are where it holds; with ``bool`` it gives 0 or 1.
    """
    numbers = np.broadcast_to(scalar, vectors.values.shape)
    histograms = vectors.histograms
    sides = (
        _Operands(numbers, vectors.values, vectors.present, None, histograms)
        if swapped
        else _Operands(vectors.values, numbers, vectors.present, histograms, None)
    )
    outcome = _operate(context, node, sides)
    compares = node.operator in COMPARISONS
    if compares and not node.bool_modifier:
        return Vectors(
            vectors.labels, vectors.values, vectors.present & outcome.kept & ~outcome.failed, histograms
        ).filled()
    values = outcome.kept.astype(float) if compares else outcome.values
    result = Vectors(
        vectors.labels if node.operator in TRIMS else [without_metadata(one) for one in vectors.labels],
        values,
        vectors.present & ~outcome.failed,
        None if compares else outcome.histograms,
    )
    return merged(result).filled()


# Which elements of two vectors belong together.


def _signature(matching: Matching) -> Callable[[LabelSet], LabelSet]:
    names = set(matching.labels) if matching.on else {*matching.labels, METRIC_NAME}
    if matching.on:
        return lambda labels: label_sets.only(labels, names)
    return lambda labels: label_sets.without(labels, names)


def _signatures(matching: Matching, *sides: Vectors) -> tuple[list[Rows], int]:
    """Return the number of the signature of each series of each side, and how many there are."""
    signature = _signature(matching)
    numbers: dict[LabelSet, int] = {}
    found = [
        np.array([numbers.setdefault(signature(one), len(numbers)) for one in side.labels], np.intp) for side in sides
    ]
    return found, len(numbers)


def _present_by_signature(vectors: Vectors, signatures: Rows, count: int) -> Bools:
    """Return for each signature at which steps an element has it."""
    result = np.zeros((count, vectors.present.shape[1]), bool)
    np.logical_or.at(result, signatures, vectors.present)
    return result


def set_operation(node: Binary, left: Vectors, right: Vectors) -> Vectors:
    """``and``: elements on the left with one like it on the right; ``unless``: without; ``or``: and those of the
    right that have none like it on the left."""
    assert node.matching is not None
    (of_left, of_right), count = _signatures(node.matching, left, right)
    if node.operator != "or":
        there = _present_by_signature(right, of_right, count)[of_left]
        present = left.present & (there if node.operator == "and" else ~there)
        return Vectors(left.labels, left.values, present, left.histograms).filled()
    there = _present_by_signature(left, of_left, count)[of_right]
    rest = Vectors(right.labels, right.values, right.present & ~there, right.histograms)
    return merged(stacked(left, rest)).filled()


def stacked(one: Vectors, two: Vectors) -> Vectors:
    """Return the series of both."""
    histograms = None
    if one.histograms is not None or two.histograms is not None:
        histograms = np.concatenate(
            [
                np.full(side.values.shape, None, object) if side.histograms is None else side.histograms
                for side in (one, two)
            ]
        )
    return Vectors(
        [*one.labels, *two.labels],
        np.concatenate([one.values, two.values]),
        np.concatenate([one.present, two.present]),
        histograms,
    )


def vectors(context: Context, node: Binary, left: Vectors, right: Vectors) -> Vectors:
    """Return an operation between the elements of two vectors that belong together.

    An element without one to go with is left out, or goes with the value of ``fill``.
    """
    matching = node.matching
    assert matching is not None
    steps = left.values.shape[1]
    if not (left.labels or right.labels):
        return empty(steps)
    (of_left, of_right), count = _signatures(matching, left, right)
    many_right = matching.group == "right"
    many, one = (right, left) if many_right else (left, right)
    of_many, of_one = (of_right, of_left) if many_right else (of_left, of_right)
    # With group_right, too, fill_right() fills the side of one: it is what Prometheus does.
    filled_one, filled_many = matching.fill_right, matching.fill_left
    either = np.ones(steps, bool)
    if filled_one is None and filled_many is None:
        either &= left.present.any(axis=0) & right.present.any(axis=0)
    _check_one_side(node, many, one, of_one, count, either)
    pairs = _pairs(context, many, one, of_many, of_one, count)
    if filled_one is not None:
        there = _present_by_signature(one, of_one, count)[of_many]
        pairs.append(_filled(many, many.present & ~there, of_many, matching, filled_one, many_is_filled=False))
    if filled_many is not None:
        there = _present_by_signature(many, of_many, count)[of_one]
        pairs.append(_filled(one, one.present & ~there, of_one, matching, filled_many, many_is_filled=True))
    results: list[Vectors] = []
    all_signatures: list[Rows] = []
    matched: list[Bools] = []
    for pair in pairs:
        context.check_size(len(pair.many.labels), steps)
        sides = _Operands(
            (pair.one if many_right else pair.many).values,
            (pair.many if many_right else pair.one).values,
            pair.present,
            (pair.one if many_right else pair.many).histograms,
            (pair.many if many_right else pair.one).histograms,
        )
        outcome = _operate(context, node, sides)
        labels = _result_labels(node, matching, pair.many.labels, pair.one.labels)
        compares = node.operator in COMPARISONS
        there = pair.present & ~outcome.failed
        kept = there if node.bool_modifier else there & outcome.kept
        values = outcome.kept.astype(float) if compares and node.bool_modifier else outcome.values
        results.append(Vectors(labels, values, kept, None if compares and node.bool_modifier else outcome.histograms))
        all_signatures.append(pair.signatures)
        matched.append(there)
    if not results:
        return empty(steps)
    _check_matches(matching, results, all_signatures, matched, count)
    combined = results[0]
    for further in results[1:]:
        combined = stacked(combined, further)
    return merged(combined.filled())


@dataclass(slots=True)
class _Pairs:
    """Elements that belong together: row i of ``many`` and row i of ``one``, where `present`."""

    many: Vectors
    one: Vectors
    present: Bools
    signatures: Rows


def _pairs(context: Context, many: Vectors, one: Vectors, of_many: Rows, of_one: Rows, count: int) -> list[_Pairs]:
    order = np.argsort(of_one, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(of_one, minlength=count))]).astype(np.intp)
    sizes = np.diff(starts)[of_many]
    total = int(sizes.sum())
    context.check_size(total, many.values.shape[1])
    if not total:
        return []
    of_pair = np.repeat(np.arange(len(of_many)), sizes)
    within = np.arange(total) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    with_one = order[starts[of_many[of_pair]] + within]
    left, right = many.take(of_pair), one.take(with_one)
    return [_Pairs(left, right, left.present & right.present, of_many[of_pair])]


def _filled(
    vectors: Vectors, present: Bools, signatures: Rows, matching: Matching, value: float, *, many_is_filled: bool
) -> _Pairs:
    """Return elements with the other side filled in: that has the labels that are matched, and the value."""
    signature = _signature(matching)
    other = Vectors(
        [signature(one) for one in vectors.labels],
        np.full(vectors.values.shape, value),
        np.ones(vectors.present.shape, bool),
    )
    many, one = (other, vectors) if many_is_filled else (vectors, other)
    return _Pairs(many, one, present, signatures)


def _check_one_side(node: Binary, many: Vectors, one: Vectors, of_one: Rows, count: int, either: Bools) -> None:
    """Raise where elements of the side that must have one for each signature have the same, at any step."""
    if len(np.unique(of_one)) == len(of_one):
        return
    counts = np.zeros((count, one.present.shape[1]), np.int64)
    np.add.at(counts, of_one, one.present)
    twice = (counts > 1) & either
    if not twice.any():
        return
    step = int(np.flatnonzero(twice.any(axis=0))[0])
    firsts: dict[int, int] = {}
    first = second = 0
    for row in np.flatnonzero(one.present[:, step] & twice[of_one, step]).tolist():
        second = row
        first = firsts.setdefault(int(of_one[row]), row)
        if first != row:
            break
    assert node.matching is not None
    side = "left" if node.matching.group == "right" else "right"
    matched = _signature(node.matching)(one.labels[second])
    raise ExecutionError(
        f"found duplicate series for the match group {label_sets.text(matched)} on the {side} hand-side of the "
        f"operation: [{label_sets.text(one.labels[second])}, {label_sets.text(one.labels[first])}];many-to-many "
        "matching not allowed: matching labels must be unique on one side"
    )


def _check_matches(
    matching: Matching, results: Sequence[Vectors], signatures: Sequence[Rows], matched: Sequence[Bools], count: int
) -> None:
    """Raise where two results cannot be told apart: by the labels that are matched, or by all with group_left."""
    keys: dict[tuple[int, LabelSet], int] = {}
    rows: list[int] = []
    for signature, result in zip(signatures, results, strict=True):
        for number, labels in zip(signature.tolist(), result.labels, strict=True):
            key = (number, labels if matching.group else ())
            rows.append(keys.setdefault(key, len(keys)))
    if len(keys) == len(rows):
        return
    steps = matched[0].shape[1]
    counts = np.zeros((len(keys), steps), np.int64)
    np.add.at(counts, np.array(rows, np.intp), np.concatenate(matched))
    if (counts > 1).any():
        raise ExecutionError(
            "multiple matches for labels: grouping labels must ensure unique matches"
            if matching.group
            else "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
        )


def _result_labels(
    node: Binary, matching: Matching, many: Sequence[LabelSet], one: Sequence[LabelSet]
) -> list[LabelSet]:
    """Return the labels of results: those of the side of many, or the matched ones; and those included."""
    drops_name = node.bool_modifier or node.operator in ARITHMETIC
    names = set(matching.labels)
    results = []
    for labels, other in zip(many, one, strict=True):
        result = without_metadata(labels) if drops_name else labels
        if not matching.group:
            result = label_sets.only(result, names) if matching.on else label_sets.without(result, names)
        elif matching.include:
            result = label_sets.replaced(result, [(name, label_sets.get(other, name)) for name in matching.include])
        results.append(result)
    return results


def negated(operand: Vectors) -> Vectors:
    """Return each element negated, without the name of the metric."""
    histograms = operand.histograms
    if histograms is not None:
        histograms = np.frompyfunc(lambda cell: cell and cell.multiplied(-1), 1, 1)(histograms)
    labels = [without_metadata(one) for one in operand.labels]
    return merged(dataclasses.replace(operand, labels=labels, values=-operand.values, histograms=histograms))
