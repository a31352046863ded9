"""The engine: a query in, its result out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gateway.query.errors import BadQueryError, LimitExceededError
from gateway.query.promql import nodes
from gateway.query.promql.context import Context, Limits
from gateway.query.promql.evaluator import Evaluator
from gateway.query.promql.histogram import Histogram
from gateway.query.promql.nodes import ValueType, unparenthesized, value_type
from gateway.query.promql.parser import parse
from gateway.query.promql.results import Matrix, Points, Result, Sample, Scalar, String, Vector
from gateway.query.promql.vectors import Vectors
from gateway.query.promql.windows import windows
from gateway.query.series import Hints, Querier

LOOKBACK = 300_000
DEFAULT_STEP = 60_000

Longs = NDArray[np.int64]


class Engine:
    """Evaluates PromQL over the series of a querier, as Prometheus 3 does. For worker threads; holds no state."""

    def __init__(
        self,
        querier: Querier,
        *,
        lookback: int = LOOKBACK,
        default_step: int = DEFAULT_STEP,
        limits: Limits | None = None,
        needs: Callable[[int], None] | None = None,
    ) -> None:
        """`lookback`: milliseconds that a sample counts for. `default_step`: of subqueries that name no step.

        `needs` is told how many bytes vectors are about to take; it may wait for other queries, and raise.
        """
        self._querier = querier
        self._lookback = lookback
        self._default_step = default_step
        self._limits = limits or Limits()
        self._needs = needs

    def instant(
        self,
        query: str,
        time: int,
        *,
        canceled: Callable[[], bool] | None = None,
        lookback: int | None = None,
    ) -> Result:
        """Return the value of `query` at a time (milliseconds). Raises a `QueryError`.

        `canceled` is asked between operators whether anybody still waits. `lookback`: milliseconds that a sample counts
        for in this query.
        """
        node = parse(query, 0, 0)
        context = self._context(query, time, time, 0, canceled, lookback)
        evaluator = Evaluator(context, np.array([time], np.int64), 0)
        with np.errstate(all="ignore"):
            match value_type(node):
                case ValueType.STRING:
                    inner = unparenthesized(node)
                    assert isinstance(inner, nodes.Text)
                    return Result(String(time, inner.value), context.annotations)
                case ValueType.SCALAR:
                    return Result(Scalar(time, float(evaluator.scalar(node)[0])), context.annotations)
                case ValueType.MATRIX:
                    return Result(_samples(evaluator, node), context.annotations)
                case ValueType.VECTOR:
                    return Result(_vector(evaluator.vectors(node), time), context.annotations)

    def range(
        self,
        query: str,
        start: int,
        end: int,
        step: int,
        *,
        canceled: Callable[[], bool] | None = None,
        lookback: int | None = None,
    ) -> Result:
        """Return the values of `query` from `start` to `end`, every `step` (milliseconds). Raises a `QueryError`."""
        node = parse(query, step, end - start)
        if step <= 0:
            raise BadQueryError(
                "zero or negative query resolution step widths are not accepted. Try a positive integer"
            )
        kind = value_type(node)
        if kind not in (ValueType.VECTOR, ValueType.SCALAR):
            raise BadQueryError(
                f'invalid expression type "{kind.value}" for range query, must be Scalar or instant Vector'
            )
        count = max((end - start) // step + 1, 0)
        if count > self._limits.cells:
            raise LimitExceededError(
                f"query asks for {count} steps, of at most {self._limits.cells}", "cells", self._limits.cells
            )
        context = self._context(query, start, end, step, canceled, lookback)
        steps = start + step * np.arange(count, dtype=np.int64)
        evaluator = Evaluator(context, steps, step)
        with np.errstate(all="ignore"):
            if kind is ValueType.SCALAR:
                points = Points({}, steps, evaluator.scalar(node), np.empty(0, np.int64), [])
                return Result(Matrix([points] if count else []), context.annotations)
            return Result(_matrix(evaluator.vectors(node), steps), context.annotations)

    def _context(
        self,
        query: str,
        start: int,
        end: int,
        step: int,
        canceled: Callable[[], bool] | None,
        lookback: int | None,
    ) -> Context:
        return Context(
            query,
            self._querier,
            self._limits,
            self._lookback if lookback is None else lookback,
            self._default_step,
            start,
            end,
            step,
            canceled,
            self._needs,
        )


def _vector(vectors: Vectors, time: int) -> Vector:
    histograms = vectors.histograms
    values = vectors.values[:, 0].tolist()
    return Vector(
        time,
        [
            Sample(dict(labels), values[row], None if histograms is None else histograms[row, 0])
            for row, labels in enumerate(vectors.labels)
            if vectors.present[row, 0]
        ],
    )


def _matrix(vectors: Vectors, steps: Longs) -> Matrix:
    order = sorted(range(len(vectors.labels)), key=lambda row: vectors.labels[row])
    numbers = vectors.numbers()
    series = []
    for row in order:
        there = numbers[row]
        own: list[Histogram] = []
        at = np.empty(0, np.int64)
        if vectors.histograms is not None:
            where = vectors.present[row] & ~there
            own, at = vectors.histograms[row, where].tolist(), steps[where]
        all_there = bool(there.all())
        series.append(
            Points(
                dict(vectors.labels[row]),
                steps if all_there else steps[there],
                vectors.values[row] if all_there else vectors.values[row][there],
                at,
                own,
            )
        )
    return Matrix(series)


def _samples(evaluator: Evaluator, node: nodes.Node) -> Matrix:
    """Return the samples of a range vector by itself."""
    series, ends, length = evaluator.samples(node, Hints())
    part = windows(series, ends, length, evaluator.steps)
    points = []
    for row, labels in enumerate(part.labels):
        low, high = int(part.low[row, 0]), int(part.high[row, 0])
        own_low, own_high = int(part.histogram_low[row, 0]), int(part.histogram_high[row, 0])
        if high > low or own_high > own_low:
            points.append(
                Points(
                    dict(labels),
                    part.times[low:high],
                    part.values[low:high],
                    part.histogram_times[own_low:own_high],
                    part.histograms[own_low:own_high],
                )
            )
    return Matrix(sorted(points, key=lambda one: sorted(one.labels.items())))
