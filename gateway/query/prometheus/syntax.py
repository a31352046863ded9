"""Queries as Prometheus writes them, over several lines where they are long, and as a tree for its user interface."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from gateway.query.numbers_text import shortest
from gateway.query.promql import nodes
from gateway.query.promql.nodes import Node
from gateway.query.series import METRIC_NAME, Matcher

_LINE = 100
"""Characters from which on an expression is written over several lines."""
_PLAIN_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_UNITS = (
    *(("y", 365 * 86_400_000, True), ("w", 7 * 86_400_000, True), ("d", 86_400_000, False), ("h", 3_600_000, False)),
    *(("m", 60_000, False), ("s", 1000, False), ("ms", 1, False)),
)
"""Units of durations in milliseconds, and whether one is used only where nothing is left over."""


def children(node: Node) -> Iterator[Node]:
    """Yield the expressions that one is made of."""
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if isinstance(value, Node):
            yield value
        elif isinstance(value, tuple):
            yield from (each for each in value if isinstance(each, Node))


def selectors(node: Node) -> list[Sequence[Matcher]]:
    """Return the matchers of each selector in an expression."""
    if isinstance(node, nodes.Selector):
        return [node.matchers]
    return [matchers for child in children(node) for matchers in selectors(child)]


# -- as text -----------------------------------------------------------------------------------------------------------


def formatted(node: Node, level: int = 0) -> str:
    """Return an expression as text, in lines where it is long."""
    indent, text = "  " * level, written(node)
    if len(text) <= _LINE:
        return indent + text
    match node:
        case nodes.Aggregation():
            lines = [formatted(each, level + 1) for each in (node.parameter, node.expr) if each is not None]
            return f"{indent}{_aggregates(node)}(\n" + ",\n".join(lines) + f"\n{indent})"
        case nodes.Binary():
            left, right = formatted(node.left, level + 1), formatted(node.right, level + 1)
            return f"{left}\n{indent}{_operator(node)}\n{right}"
        case nodes.Call():
            lines = [formatted(each, level + 1) for each in node.args]
            return f"{indent}{node.function}(\n" + ",\n".join(lines) + f"\n{indent})"
        case nodes.Paren():
            return f"{indent}(\n{formatted(node.expr, level + 1)}\n{indent})"
        case nodes.Subquery():
            return formatted(node.expr, level) + _suffix(node)
        case nodes.Unary():
            return f"{indent}{node.operator}{formatted(node.expr, level).strip()}"
        case _:
            return indent + text


def written(node: Node) -> str:
    """Return an expression as text in one line."""
    match node:
        case nodes.Number():
            return shortest(node.value)
        case nodes.Text():
            return _quoted(node.value)
        case nodes.Selector():
            return _selector(node) + _modifiers(node.time, node.offset)
        case nodes.RangeSelector():
            selector = node.selector
            return f"{_selector(selector)}[{_duration(node.range)}]{_modifiers(selector.time, selector.offset)}"
        case nodes.Subquery():
            return written(node.expr) + _suffix(node)
        case nodes.Call():
            return f"{node.function}({', '.join(map(written, node.args))})"
        case nodes.Aggregation():
            its = [written(each) for each in (node.parameter, node.expr) if each is not None]
            return f"{_aggregates(node)}({', '.join(its)})"
        case nodes.Binary():
            return f"{written(node.left)} {_operator(node)} {written(node.right)}"
        case nodes.Unary():
            return node.operator + written(node.expr)
        case nodes.Paren():
            return f"({written(node.expr)})"
        case _:
            raise AssertionError(node)


def _selector(node: nodes.Selector) -> str:
    own = Matcher(METRIC_NAME, "=", node.name)
    matchers = sorted(
        f"{_label(name)}{op}{_quoted(value)}"
        for name, op, value in node.matchers
        if not (node.name and Matcher(name, op, value) == own)
    )
    return node.name + ("{" + ",".join(matchers) + "}" if matchers else "")


def _suffix(node: nodes.Subquery) -> str:
    step = "" if node.step is None else _duration(node.step)
    return f"[{_duration(node.range)}:{step}]{_modifiers(node.time, node.offset)}"


def _modifiers(time: nodes.Time | None, offset: int) -> str:
    at = "" if time is None else f" @ {time.at}()" if isinstance(time.at, str) else f" @ {time.at / 1000:.3f}"
    return at + (f" offset {'-' if offset < 0 else ''}{_duration(abs(offset))}" if offset else "")


def _aggregates(node: nodes.Aggregation) -> str:
    if not node.without and not node.labels:
        return node.operator
    return f"{node.operator} {'without' if node.without else 'by'} ({_labels(node.labels)}) "


def _operator(node: nodes.Binary) -> str:
    text = node.operator + (" bool" if node.bool_modifier else "")
    matching = node.matching
    if matching is None:
        return text
    if matching.labels or matching.on or matching.group:
        text += f" {'on' if matching.on else 'ignoring'} ({_labels(matching.labels)})"
    if matching.group:
        text += f" group_{matching.group} ({_labels(matching.include)})"
    left, right = matching.fill_left, matching.fill_right
    if left is not None and left == right:
        return f"{text} fill ({shortest(left)})"
    for side, value in (("left", left), ("right", right)):
        if value is not None:
            text += f" fill_{side} ({shortest(value)})"
    return text


def _labels(names: Sequence[str]) -> str:
    return ", ".join(map(_label, names))


def _label(name: str) -> str:
    return name if _PLAIN_LABEL.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _duration(milliseconds: int) -> str:
    if milliseconds == 0:
        return "0s"
    text = ""
    for unit, length, whole in _UNITS:
        if milliseconds and not (whole and milliseconds % length):
            count, milliseconds = divmod(milliseconds, length)
            text += f"{count}{unit}" if count else ""
    return text


# -- as a tree ---------------------------------------------------------------------------------------------------------


def tree(node: Node | None) -> Any:
    """Return an expression as Prometheus's user interface takes it."""
    match node:
        case nodes.Aggregation():
            return {
                "type": "aggregation",
                "op": node.operator,
                "expr": tree(node.expr),
                "param": tree(node.parameter),
                "grouping": list(node.labels),
                "without": node.without,
            }
        case nodes.Binary():
            return {
                "type": "binaryExpr",
                "op": node.operator,
                "lhs": tree(node.left),
                "rhs": tree(node.right),
                "matching": None if node.matching is None else _matching(node, node.matching),
                "bool": node.bool_modifier,
            }
        case nodes.Call():
            signature = nodes.FUNCTIONS[node.function]
            function = {
                "name": node.function,
                "argTypes": [_TYPES[each] for each in signature.args],
                "variadic": signature.variadic,
                "returnType": _TYPES[signature.returns],
            }
            return {"type": "call", "func": function, "args": [tree(each) for each in node.args]}
        case nodes.RangeSelector():
            return {**_selected(node.selector), "type": "matrixSelector", "range": node.range, "rangeExpr": None}
        case nodes.Selector():
            return {"type": "vectorSelector", **_selected(node)}
        case nodes.Subquery():
            return {
                "type": "subquery",
                "expr": tree(node.expr),
                "range": node.range,
                "rangeExpr": None,
                "step": node.step or 0,
                "stepExpr": None,
                **_when(node.time, node.offset),
            }
        case nodes.Number():
            return {"type": "numberLiteral", "val": shortest(node.value)}
        case nodes.Text():
            return {"type": "stringLiteral", "val": node.value}
        case nodes.Paren():
            return {"type": "parenExpr", "expr": tree(node.expr)}
        case nodes.Unary():
            return {"type": "unaryExpr", "op": node.operator, "expr": tree(node.expr)}
        case _:
            return None


_TYPES = {
    nodes.ValueType.SCALAR: "scalar",
    nodes.ValueType.VECTOR: "vector",
    nodes.ValueType.MATRIX: "matrix",
    nodes.ValueType.STRING: "string",
}


def _matching(node: nodes.Binary, matching: nodes.Matching) -> Any:
    card = {"left": "many-to-one", "right": "one-to-many", "": "one-to-one"}[matching.group]
    return {
        "card": "many-to-many" if node.operator in nodes.SET_OPERATORS else card,
        "labels": list(matching.labels),
        "on": matching.on,
        "include": list(matching.include),
        "fillValues": {"lhs": matching.fill_left, "rhs": matching.fill_right},
    }


def _selected(node: nodes.Selector) -> dict[str, Any]:
    return {
        "name": node.name,
        "matchers": [{"name": name, "value": value, "type": op} for name, op, value in node.matchers],
        "anchored": False,
        "smoothed": False,
        **_when(node.time, node.offset),
    }


def _when(time: nodes.Time | None, offset: int) -> dict[str, Any]:
    at = None if time is None else time.at
    return {
        "offset": offset,
        "offsetExpr": None,
        "timestamp": at if isinstance(at, int) else None,
        "startOrEnd": at if isinstance(at, str) else None,
    }
