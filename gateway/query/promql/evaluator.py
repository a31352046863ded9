"""Evaluation of a syntax tree: each expression once, for all steps together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gateway.query.errors import ExecutionError
from gateway.query.promql import (
    aggregations,
    binary,
    functions,
    histogram_functions,
    info,
    label_functions,
    nodes,
    selectors,
)
from gateway.query.promql.context import Context
from gateway.query.promql.labels import EMPTY, LabelSet, label_set, without_metadata
from gateway.query.promql.nodes import Node, ValueType, unparenthesized, value_type
from gateway.query.promql.range_calls import Cells, RangeCall
from gateway.query.promql.range_functions import KEEPS_NAME, RANGE_FUNCTIONS
from gateway.query.promql.vectors import Bools, Floats, Objects, Vectors, empty, unique
from gateway.query.promql.windows import Samples, blocks, samples_of, windows
from gateway.query.series import METRIC_NAME, Hints

Longs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Evaluates expressions at some steps (ascending, milliseconds)."""

    context: Context
    steps: Longs
    step: int
    """Milliseconds between steps; 0 if there is but one."""

    # One method for each type of value.

    def vectors(self, node: Node, hints: Hints | None = None) -> Vectors:
        """Return an instant vector at each step. `hints`: what the expression around makes of it."""
        self.context.check()
        held = self.context.held
        result = self._vectors(node, hints)
        self.context.check_size(len(result.labels), len(self.steps))
        self.context.held = held
        self.context.hold(result.values.size)
        return result

    def _vectors(self, node: Node, hints: Hints | None) -> Vectors:
        match node:
            case nodes.Selector():
                return selectors.instant(self.context, node, self.steps, hints or self._hints("", last_only=True))
            case nodes.Paren(expr=inner):
                return self.vectors(inner, hints)
            case nodes.Unary(operator=operator, expr=inner):
                operand = self.vectors(inner)
                return binary.negated(operand) if operator == "-" else operand
            case nodes.Aggregation():
                return self._aggregation(node)
            case nodes.Binary():
                return self._binary(node)
            case nodes.Call():
                return self._call(node)
            case _:
                raise AssertionError(node)

    def scalar(self, node: Node) -> Floats:
        """Return a scalar at each step."""
        held = self.context.held
        result = self._scalar(node)
        self.context.held = held
        self.context.hold(len(result))
        return result

    def _scalar(self, node: Node) -> Floats:
        match node:
            case nodes.Number(value=value):
                return np.full(len(self.steps), value)
            case nodes.Paren(expr=inner):
                return self.scalar(inner)
            case nodes.Unary(operator=operator, expr=inner):
                value_ = self.scalar(inner)
                return -value_ if operator == "-" else value_
            case nodes.Binary(operator=operator, left=left, right=right):
                return binary.scalars(operator, self.scalar(left), self.scalar(right))
            case nodes.Call():
                return self._scalar_call(node)
            case _:
                raise AssertionError(node)

    def samples(self, node: Node, hints: Hints) -> tuple[list[Samples], Longs, int]:
        """Return the samples of a range vector, where its windows end at each step, and their length."""
        match unparenthesized(node):
            case nodes.RangeSelector(selector=selector, range=length):
                series, ends = selectors.range_series(
                    self.context, selector, self.steps, length, replace(hints, range=length)
                )
                return [samples_of(one) for one in series], ends, length
            case nodes.Subquery() as subquery:
                steps, ends = selectors.subquery_steps(self.context, subquery, self.steps)
                self.context.hold(len(steps) + len(ends))
                inner = Evaluator(self.context, steps, subquery.step or self.context.default_step)
                found = selectors.as_samples(self.context, inner.vectors(subquery.expr), steps)
                return found, ends, subquery.range
            case other:
                raise AssertionError(other)

    def _hints(self, function: str, *, last_only: bool = False) -> Hints:
        return Hints(step=self.step, func=function, last_only=last_only)

    # Expressions of vectors.

    def _aggregation(self, node: nodes.Aggregation) -> Vectors:
        parameter: Floats | str | None = None
        if node.parameter is not None:
            inner = unparenthesized(node.parameter)
            parameter = inner.value if isinstance(inner, nodes.Text) else self.scalar(inner)
        hints = Hints(self.step, 0, node.operator, node.labels, not node.without, last_only=True)
        operand = self.vectors(node.expr, hints if isinstance(node.expr, nodes.Selector) else None)
        return aggregations.aggregate(self.context, node, operand, parameter)

    def _binary(self, node: nodes.Binary) -> Vectors:
        if value_type(node.left) is ValueType.SCALAR:
            return binary.vector_and_scalar(
                self.context, node, self.vectors(node.right), self.scalar(node.left), swapped=True
            )
        left = self.vectors(node.left)
        if value_type(node.right) is ValueType.SCALAR:
            return binary.vector_and_scalar(self.context, node, left, self.scalar(node.right), swapped=False)
        right = self.vectors(node.right)
        if node.operator in nodes.SET_OPERATORS:
            return binary.set_operation(node, left, right)
        return binary.vectors(self.context, node, left, right)

    def _call(self, node: nodes.Call) -> Vectors:
        name, args = node.function, node.args
        if any(value_type(arg) is ValueType.MATRIX for arg in args):
            return self._range_call(node)
        match name:
            case "vector":
                return functions.vector_of(self.scalar(args[0]))
            case "timestamp":
                return self._timestamp(unparenthesized(args[0]))
            case "start_timestamp":
                return self._start_timestamp(args[0])
            case _ if name in functions.DATES and not args:
                seconds = np.floor(self.steps / 1000)
                return functions.vector_of(functions.DATES[name](seconds))
            case "histogram_quantile":
                quantiles, operand = self.scalar(args[0]), self.vectors(args[1])
                return histogram_functions.quantile(
                    self.context, operand, quantiles, (args[0], args[1]), self.steps.astype(float)
                )
            case "histogram_fraction":
                lower, upper, operand = self.scalar(args[0]), self.scalar(args[1]), self.vectors(args[2])
                return histogram_functions.fraction(self.context, operand, lower, upper, (args[0], args[2]))
            case _:
                return self._vector_call(node, self.vectors(args[0]))

    def _vector_call(self, node: nodes.Call, operand: Vectors) -> Vectors:
        """Call a function whose first argument is a vector."""
        name, args = node.function, node.args
        if name in functions.MATHEMATICS:
            return functions.mapped(operand, functions.MATHEMATICS[name])
        if name in functions.DATES:
            return functions.mapped(operand, functions.DATES[name])
        if name in histogram_functions.OF_NATIVE:
            return histogram_functions.mapped(self.context, operand, name)
        if name.startswith("sort") and self.context.step:
            self.context.warn(node, "sort is ineffective for range queries since results are always ordered by labels")
        unlimited = np.full(len(self.steps), np.inf)
        match name:
            case "round":
                nearest = self.scalar(args[1]) if len(args) > 1 else np.ones(len(self.steps))
                return functions.rounded(operand, nearest)
            case "clamp":
                return functions.clamped(operand, self.scalar(args[1]), self.scalar(args[2]))
            case "clamp_min":
                return functions.clamped(operand, self.scalar(args[1]), unlimited)
            case "clamp_max":
                return functions.clamped(operand, -unlimited, self.scalar(args[1]))
            case "absent":
                return functions.absent(operand, _absent_labels(args[0]), len(self.steps))
            case "sort" | "sort_desc":
                return functions.sorted_by_value(operand, descending=name == "sort_desc")
            case "sort_by_label" | "sort_by_label_desc":
                names = [_text(arg) for arg in args[1:]]
                return functions.sorted_by_label(operand, names, descending=name == "sort_by_label_desc")
            case "label_replace":
                return label_functions.replaced(self.context, operand, *(_text(arg) for arg in args[1:5]))
            case "label_join":
                sources = [_text(arg) for arg in args[3:]]
                return label_functions.joined(self.context, operand, _text(args[1]), _text(args[2]), sources)
            case "histogram_quantiles":
                wanted = [(self.scalar(arg), arg) for arg in args[2:]]
                return histogram_functions.quantiles(
                    self.context, operand, _text(args[1]), wanted, args[0], self.steps.astype(float)
                )
            case "info":
                return info.enriched(self.context, node, operand, self.steps)
            case _:
                raise ExecutionError(f"function {name!r} is not implemented")

    def _start_timestamp(self, arg: Node) -> Vectors:
        """start_timestamp(): nothing, as in a Prometheus that was not told to use start timestamps."""
        self.vectors(arg)
        return empty(len(self.steps))

    def _timestamp(self, arg: Node) -> Vectors:
        """timestamp(): when the sample of a selector was taken; of any other expression, the time of the step."""
        if isinstance(arg, nodes.Selector):
            result = selectors.instant(self.context, arg, self.steps, self._hints("timestamp"), times_only=True)
        else:
            operand = self.vectors(arg)
            times = np.broadcast_to(self.steps / 1000, operand.values.shape)
            result = Vectors(operand.labels, times, operand.present)
        return functions.mapped(Vectors(result.labels, result.values, result.present), lambda values: values)

    def _scalar_call(self, node: nodes.Call) -> Floats:
        """Call a function whose result is a scalar.

        time(): the time of the step, in seconds since the epoch. start(), end(), range(), step(): those of the query,
        in seconds; of an instant query, its time, its time, 0 and 0. pi(): π.
        """
        match node.function:
            case "scalar":
                return functions.scalar_of(self.vectors(node.args[0]))
            case "time":
                return self.steps / 1000
            case "pi":
                return np.full(len(self.steps), np.pi)
            case "start":
                return np.full(len(self.steps), self.context.start / 1000)
            case "end":
                return np.full(len(self.steps), self.context.end / 1000)
            case "range":
                return np.full(len(self.steps), (self.context.end - self.context.start) / 1000)
            case "step":
                return np.full(len(self.steps), self.context.step / 1000)
            case "max_of" | "min_of":
                one, two = (self.scalar(arg) for arg in node.args)
                return functions.scalar_pair(node.function, one, two)
            case name:
                raise ExecutionError(f"function {name!r} is not implemented")

    # Functions of range vectors.

    def _range_call(self, node: nodes.Call) -> Vectors:
        name = node.function
        arg = next(arg for arg in node.args if value_type(arg) is ValueType.MATRIX)
        scalar_nodes = tuple(one for one in node.args if one is not arg)
        scalars = tuple(self.scalar(one) for one in scalar_nodes)
        series, ends, length = self.samples(arg, self._hints(name))
        self.context.check_size(len(series), len(self.steps))
        call = RangeCall(self.context, name, arg, scalars, scalar_nodes)
        if name == "absent_over_time":
            return self._absent_over_time(call, series, ends, length)
        function = RANGE_FUNCTIONS[name]
        labels: list[LabelSet] = []
        parts: list[Cells] = []
        for block in blocks(series, len(self.steps)):
            self.context.check()
            part = windows(block, ends, length, self.steps)
            cells = function(part, call)
            kept = np.flatnonzero(cells.present.any(axis=1))
            names = part.labels if name in KEEPS_NAME else [without_metadata(one) for one in part.labels]
            if len(kept) < len(names):
                cells = Cells(
                    cells.values[kept],
                    cells.present[kept],
                    None if cells.histograms is None else cells.histograms[kept],
                )
            labels += [names[row] for row in kept.tolist()]
            parts.append(cells)
        if not labels:
            return empty(len(self.steps))
        return unique(_together(labels, parts))

    def _absent_over_time(self, call: RangeCall, series: list[Samples], ends: Longs, length: int) -> Vectors:
        """absent_over_time(): 1 where no series has a sample in its window, with the labels that the selector fixes."""
        there: Bools = np.zeros(len(self.steps), bool)
        for block in blocks(series, len(self.steps)):
            part = windows(block, ends, length, self.steps)
            there |= np.logical_or.reduce(part.counts + part.histogram_counts > 0, axis=0)
        values = np.ones((1, len(self.steps)))
        return Vectors([_absent_labels(call.arg)], values, ~there[None, :]).filled()


def _together(labels: list[LabelSet], parts: list[Cells]) -> Vectors:
    if len(parts) == 1:
        return Vectors(labels, *parts[0])
    histograms: Objects | None = None
    if any(part.histograms is not None for part in parts):
        histograms = np.concatenate(
            [np.full(part.values.shape, None, object) if part.histograms is None else part.histograms for part in parts]
        )
    return Vectors(
        labels,
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.present for part in parts]),
        histograms,
    )


def _text(node: Node) -> str:
    inner = unparenthesized(node)
    assert isinstance(inner, nodes.Text)
    return inner.value


def _absent_labels(node: Node) -> LabelSet:
    """Return the labels that a selector fixes to one value by ``=``."""
    selector = node.selector if isinstance(node, nodes.RangeSelector) else node
    if not isinstance(selector, nodes.Selector):
        return EMPTY
    labels: dict[str, str] = {}
    seen: set[str] = set()
    for matcher in selector.matchers:
        if matcher.name == METRIC_NAME:
            continue
        if matcher.op == "=" and matcher.name not in seen:
            labels[matcher.name] = matcher.value
            seen.add(matcher.name)
        else:
            labels.pop(matcher.name, None)
    return label_set(labels)
