"""info(): labels of info metrics, such as ``target_info``, put beside the labels of other series.

They belong together by the labels ``instance`` and ``job``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.query.errors import ExecutionError
from gateway.query.matching import Condition, conditions
from gateway.query.promql import labels as label_sets
from gateway.query.promql.context import Context
from gateway.query.promql.labels import LabelSet, label_set, metric_name
from gateway.query.promql.nodes import Call, Node, RangeSelector, Selector, Subquery
from gateway.query.promql.selectors import newest
from gateway.query.promql.vectors import Vectors, merged
from gateway.query.regexes import MAX_LENGTH
from gateway.query.series import METRIC_NAME, Hints, Matcher

_IDENTIFYING = ("instance", "job")
_TARGET_INFO = Matcher(METRIC_NAME, "=", "target_info")
_ANY_INFO = Matcher(METRIC_NAME, "=~", ".+_info")

Longs = NDArray[np.int64]


def enriched(context: Context, node: Call, vectors: Vectors, steps: Longs) -> Vectors:
    """Return `vectors` with the labels of info series, all or those that the second argument names.

    Info series themselves stay as they are. A series without an info series is left out where the second argument
    asks for a label that is not empty.
    """
    selector = node.args[1] if len(node.args) > 1 else None
    matchers = selector.matchers if isinstance(selector, Selector) else (_TARGET_INFO,)
    names = _name_matchers([matcher for matcher in matchers if matcher.name == METRIC_NAME])
    data = [matcher for matcher in matchers if matcher.name != METRIC_NAME]
    naming = conditions(names)
    is_info = [all(condition(metric_name(labels)) for condition in naming) for labels in vectors.labels]
    infos = _info_series(context, node, vectors, is_info, [*data, *names], steps)
    result: list[tuple[LabelSet, int, NDArray[np.bool_]]] = []
    for row, labels in enumerate(vectors.labels):
        context.check()
        if is_info[row]:
            result.append((labels, row, vectors.present[row]))
        else:
            result += [(added, row, where) for added, where in _with_infos(labels, vectors.present[row], infos, data)]
    rows = np.array([row for _, row, _ in result], np.intp)
    context.check_size(len(rows), len(steps))
    found = vectors.take(rows)
    present = np.array([where for _, _, where in result], bool).reshape(found.present.shape)
    return merged(Vectors([labels for labels, _, _ in result], found.values, present, found.histograms).filled())


def _name_matchers(matchers: Sequence[Matcher]) -> list[Matcher]:
    """Return what the name of an info metric has to match: without any, that of ``target_info``."""
    if any(matcher.op in ("=", "=~") for matcher in matchers):
        return list(matchers)
    return [_ANY_INFO, *matchers] if matchers else [_TARGET_INFO]


def _identity(labels: LabelSet) -> LabelSet:
    return label_sets.only(labels, _IDENTIFYING)


Infos = dict[LabelSet, dict[str, list[tuple[LabelSet, NDArray[np.bool_]]]]]
"""By identifying labels and name of the info metric: labels of info series, and the steps at which each is newest."""


def _info_series(
    context: Context,
    node: Call,
    vectors: Vectors,
    is_info: Sequence[bool],
    matchers: Sequence[Matcher],
    steps: Longs,
) -> Infos:
    wanted = {_identity(labels) for labels, info in zip(vectors.labels, is_info, strict=True) if not info}
    values = {
        name: sorted({value for labels in wanted for label, value in labels if label == name}) for name in _IDENTIFYING
    }
    if not any(values.values()) or not len(steps):
        return {}
    patterns = {name: "|".join(map(_quoted, found)) for name, found in values.items() if found}
    # They only narrow what is read: without those that are too long, series are read that nothing asks for below.
    by_identity = [Matcher(name, "=~", text) for name, text in patterns.items() if len(text) <= MAX_LENGTH]
    times = _times(context, node.args[0], steps)
    series = context.select(
        [*by_identity, *matchers],
        int(times.min()) - context.lookback,
        int(times.max()),
        Hints(func="info", last_only=True),
    )
    for one in series:
        if one.histograms is not None:
            raise ExecutionError(
                f"this should be an info metric, with float samples: {label_sets.text(label_set(one.labels))}"
            )
    seen = newest(context, series, times, times_only=True)
    by_signature: dict[tuple[LabelSet, str], list[int]] = {}
    for row, labels in enumerate(seen.labels):
        by_signature.setdefault((_identity(labels), metric_name(labels)), []).append(row)
    infos: Infos = {}
    for (identity, name), rows in by_signature.items():
        at = np.where(seen.present[rows], seen.values[rows], -np.inf)
        latest = at.max(axis=0)
        wins = seen.present[rows] & (at == latest)
        twice = wins.sum(axis=0) > 1
        if twice.any() and identity in wanted:
            step = int(np.flatnonzero(twice)[0])
            first, second = (rows[row] for row in np.flatnonzero(wins[:, step]).tolist()[:2])
            when = round(latest[step] * 1000)
            raise ExecutionError(
                f"found duplicate series for info metric: existing {label_sets.text(seen.labels[first])} @ {when}, "
                f"new {label_sets.text(seen.labels[second])} @ {when}"
            )
        infos.setdefault(identity, {})[name] = [
            (seen.labels[row], wins[number]) for number, row in enumerate(rows) if wins[number].any()
        ]
    return infos


def _quoted(text: str) -> str:
    return "".join(f"\\{char}" if char in "\\.+*?()|[]{}^$" else char for char in text)


def _times(context: Context, node: Node, steps: Longs) -> Longs:
    """Return the times that the first selector of an expression looks back from: info series are looked for there."""
    selector = _first_selector(node)
    if selector is None:
        return steps
    if selector.time is None:
        return steps - selector.offset
    at = {"start": context.start, "end": context.end}.get(str(selector.time.at))
    fixed = at if at is not None else int(selector.time.at)
    return np.full(len(steps), fixed - selector.offset, np.int64)


def _first_selector(node: Node) -> Selector | None:
    if isinstance(node, Selector):
        return node
    inner: list[Node] = []
    if isinstance(node, RangeSelector):
        inner = [node.selector]
    elif isinstance(node, Subquery):
        inner = [node.expr]
    elif isinstance(node, Call):
        inner = list(node.args)
    else:
        inner = [child for name in ("left", "right", "expr") if isinstance(child := getattr(node, name, None), Node)]
    return next((found for child in inner if (found := _first_selector(child)) is not None), None)


def _with_infos(
    labels: LabelSet, present: NDArray[np.bool_], infos: Infos, data: Sequence[Matcher]
) -> list[tuple[LabelSet, NDArray[np.bool_]]]:
    """Return the labels that a series has with those of its info series, and at which steps."""
    wanted = {matcher.name for matcher in data}
    own = dict(labels)
    parts: list[tuple[dict[str, str], bool, NDArray[np.bool_]]] = [({}, False, present)]
    for found in infos.get(_identity(labels), {}).values():
        further: list[tuple[dict[str, str], bool, NDArray[np.bool_]]] = []
        for added, any_info, where in parts:
            rest = where
            for info, newest_at in found:
                both = where & newest_at
                rest = rest & ~newest_at
                if both.any():
                    further.append((_merged_labels(added, info, wanted, own), True, both))
            if rest.any():
                further.append((added, any_info, rest))
        parts = further
    keeps_without = all(Condition(matcher).takes_nothing for matcher in data)
    return [
        (label_sets.replaced(labels, added.items()), where)
        for added, any_info, where in parts
        if any_info or keeps_without
    ]


def _merged_labels(added: dict[str, str], info: LabelSet, wanted: set[str], own: dict[str, str]) -> dict[str, str]:
    result = dict(added)
    for name, value in info:
        if name == METRIC_NAME or (wanted and name not in wanted):
            continue
        if result.get(name, value) != value:
            raise ExecutionError(f"conflicting label: {name}")
        if name not in own:
            result[name] = value
    return result
