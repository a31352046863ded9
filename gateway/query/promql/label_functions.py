"""Functions that change labels: label_replace(), label_join()."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.query.errors import BadQueryError, ExecutionError
from gateway.query.promql import labels as label_sets
from gateway.query.promql.context import Context
from gateway.query.promql.lexer import is_label_name
from gateway.query.promql.vectors import Vectors, merged
from gateway.query.regexes import regex


def replaced(context: Context, vectors: Vectors, target: str, template: str, source: str, pattern: str) -> Vectors:
    """label_replace(): set a label to a template filled from the groups of a match; no match leaves all as it is."""
    try:
        compiled = regex(pattern)
        compiled.expand("", "")
    except BadQueryError:
        raise ExecutionError(f"invalid regular expression in label_replace(): {pattern}") from None
    if not is_label_name(target):
        raise ExecutionError(f"invalid destination label name in label_replace(): {target}")
    filled: dict[str, str | None] = {}
    labels = []
    for one in vectors.labels:
        value = label_sets.get(one, source)
        if value not in filled:
            context.check()
            context.make_label(len(template) + template.count("$") * len(value))
            filled[value] = compiled.expand(value, template)
        result = filled[value]
        labels.append(one if result is None else label_sets.replaced(one, [(target, result)]))
    return merged(Vectors(labels, vectors.values, vectors.present, vectors.histograms))


def joined(context: Context, vectors: Vectors, target: str, separator: str, sources: Sequence[str]) -> Vectors:
    """label_join(): set a label to the values of others, with a separator between them."""
    for source in sources:
        if not is_label_name(source):
            raise ExecutionError(f"invalid source label name in label_join(): {source}")
    if not is_label_name(target):
        raise ExecutionError(f"invalid destination label name in label_join(): {target}")
    labels = []
    for one in vectors.labels:
        context.check()
        values = [label_sets.get(one, source) for source in sources]
        context.make_label(len(separator) * len(values) + sum(map(len, values)))
        labels.append(label_sets.replaced(one, [(target, separator.join(values))]))
    return merged(Vectors(labels, vectors.values, vectors.present, vectors.histograms))
