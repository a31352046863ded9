"""Labels of series as the engine has them: sorted pairs, which can be compared and looked up."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from gateway.query.promql.messages import quoted
from gateway.query.series import METRIC_NAME

LabelSet = tuple[tuple[str, str], ...]
"""Names and values, sorted by name, no value empty."""

EMPTY: LabelSet = ()
_METADATA = frozenset({METRIC_NAME, "__type__", "__unit__"})
"""Labels that say what a metric is. They go where the values become something else."""
_LEGACY = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")


def label_set(labels: Mapping[str, str]) -> LabelSet:
    """Return labels as sorted pairs."""
    return tuple(sorted(pair for pair in labels.items() if pair[1]))


def get(labels: LabelSet, name: str) -> str:
    """Return the value of a label; empty without it."""
    return next((value for label, value in labels if label == name), "")


def metric_name(labels: LabelSet) -> str:
    """Return the name of the metric; empty without one."""
    return get(labels, METRIC_NAME)


def without_metadata(labels: LabelSet) -> LabelSet:
    """Return `labels` without the name, the type and the unit of the metric."""
    return tuple(pair for pair in labels if pair[0] not in _METADATA)


def without(labels: LabelSet, names: Collection[str]) -> LabelSet:
    """Return `labels` but for those named."""
    return tuple(pair for pair in labels if pair[0] not in names)


def only(labels: LabelSet, names: Collection[str]) -> LabelSet:
    """Return those of `labels` that are named."""
    return tuple(pair for pair in labels if pair[0] in names)


def replaced(labels: LabelSet, changes: Iterable[tuple[str, str]]) -> LabelSet:
    """Return `labels` with some set; an empty value takes a label away."""
    return label_set(dict(labels) | dict(changes))


def text(labels: LabelSet) -> str:
    """Return labels as Prometheus writes them in messages: ``{__name__="up", job="x"}``."""
    pairs = (f"{name if _LEGACY.fullmatch(name) else quoted(name)}={quoted(value)}" for name, value in labels)
    return "{" + ", ".join(pairs) + "}"
