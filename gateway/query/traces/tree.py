"""The spans of a trace as a tree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.base.instants import short_duration
from gateway.query.traces.spans import Span

DEEPEST = 8
"""Levels that are drawn as such; what is deeper says how deep it is."""


@dataclass(frozen=True, slots=True)
class Node:
    """A span at its place in the tree.

    ``lasts`` tells, of each level from the first below the root down to this span, whether the span there is the last
    of its siblings; only of the first `DEEPEST` levels.
    """

    span: Span
    parent: Span | None
    depth: int
    lasts: tuple[bool, ...]

    @property
    def notes(self) -> list[str]:
        """What is wrong with the span's place in the trace."""
        found = []
        if self.parent is None and self.span.parent_span_id:
            found.append(f"its parent {self.span.parent_span_id} is missing")
        if self.parent is not None and self.span.start < self.parent.start:
            early = short_duration(self.parent.start - self.span.start)
            found.append(f"starts {early} before its parent: their clocks differ")
        if self.span.duration is None:
            found.append("has no end" if self.span.end is None else "ends before it starts")
        return found


def tree(spans: Sequence[Span]) -> Iterator[Node]:
    """Yield spans in the order of the tree that their parents make, siblings by their start.

    A span whose parent is not among them stands among the roots, and so does the first of spans that are each other's
    ancestors. Of spans with the same id, as some client and server pairs have, the first has the children.
    """
    spans = sorted(spans, key=lambda span: span.start)
    by_id = {span.span_id: span for span in reversed(spans)}
    children: defaultdict[int, list[Span]] = defaultdict(list)
    roots = []
    for span in spans:
        parent = by_id.get(span.parent_span_id or "")
        if parent is None or parent is span:
            roots.append(span)
        else:
            children[id(parent)].append(span)
    placed = _with_descendants(roots, children)
    for span in spans:
        if id(span) not in placed:  # it is in a loop, or below one: cut that here
            siblings = children[id(by_id[span.parent_span_id or ""])]
            siblings[:] = [sibling for sibling in siblings if sibling is not span]
            roots.append(span)
            placed |= _with_descendants([span], children)

    waiting = [Node(span, None, 0, ()) for span in reversed(roots)]
    while waiting:
        node = waiting.pop()
        yield node
        below = children[id(node.span)]
        waiting += [_child(node, span, last=span is below[-1]) for span in reversed(below)]


def _with_descendants(spans: Sequence[Span], children: Mapping[int, list[Span]]) -> set[int]:
    found: set[int] = set()
    waiting = list(spans)
    while waiting:
        span = waiting.pop()
        if id(span) not in found:
            found.add(id(span))
            waiting += children.get(id(span), ())
    return found


def _child(node: Node, span: Span, *, last: bool) -> Node:
    lasts = node.lasts if len(node.lasts) >= DEEPEST else (*node.lasts, last)
    return Node(span, node.span, node.depth + 1, lasts)
