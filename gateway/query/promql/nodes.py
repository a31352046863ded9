"""The syntax tree of a PromQL query. Times and durations are milliseconds; places are offsets into its text."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from gateway.query.series import Matcher


class ValueType(Enum):
    """What an expression comes to, by the names that the documentation has for them."""

    SCALAR = "scalar"
    VECTOR = "instant vector"
    MATRIX = "range vector"
    STRING = "string"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An expression, and where it begins and ends in the query."""

    start: int = 0
    end: int = 0
    depth: int = 1
    """Levels of expressions, this one counted."""


@dataclass(frozen=True, slots=True)
class Number(Node):
    """A number, or a duration as seconds."""

    value: float


@dataclass(frozen=True, slots=True)
class Text(Node):
    """A string."""

    value: str


@dataclass(frozen=True, slots=True)
class Time:
    """A time after ``@``: milliseconds, or an end of the range of the whole query."""

    at: int | Literal["start", "end"]


@dataclass(frozen=True, slots=True)
class Selector(Node):
    """An instant vector selector. ``matchers`` has the name of the metric, too; ``name`` is the one before braces."""

    name: str
    matchers: tuple[Matcher, ...]
    offset: int = 0
    time: Time | None = None


@dataclass(frozen=True, slots=True)
class RangeSelector(Node):
    """A range vector selector."""

    selector: Selector
    range: int


@dataclass(frozen=True, slots=True)
class Subquery(Node):
    """A subquery; without a step of its own, the default of the engine."""

    expr: Node
    range: int
    step: int | None
    offset: int = 0
    time: Time | None = None


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A call of a function."""

    function: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Aggregation(Node):
    """An aggregation of a vector, by labels or without some."""

    operator: str
    expr: Node
    parameter: Node | None
    labels: tuple[str, ...]
    without: bool


@dataclass(frozen=True, slots=True)
class Matching:
    """How the elements of two vectors are brought together."""

    on: bool = False
    labels: tuple[str, ...] = ()
    group: Literal["", "left", "right"] = ""
    """The side that may have many elements for one of the other."""
    include: tuple[str, ...] = ()
    fill_left: float | None = None
    fill_right: float | None = None


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """A binary operation. ``matching`` is None unless both sides are vectors."""

    operator: str
    left: Node
    right: Node
    matching: Matching | None
    bool_modifier: bool
    scalar: bool
    """Whether both sides are scalars."""


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """A sign before an expression."""

    operator: Literal["-", "+"]
    expr: Node


@dataclass(frozen=True, slots=True)
class Paren(Node):
    """An expression in parentheses."""

    expr: Node


COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
TRIMS = frozenset({"</", ">/"})
SET_OPERATORS = frozenset({"and", "or", "unless"})
AGGREGATIONS = frozenset(
    {
        "avg",
        "bottomk",
        "count",
        "count_values",
        "group",
        "limit_ratio",
        "limitk",
        "max",
        "min",
        "quantile",
        "stddev",
        "stdvar",
        "sum",
        "topk",
    }
)
PARAMETERS = {
    "bottomk": ValueType.SCALAR,
    "count_values": ValueType.STRING,
    "limit_ratio": ValueType.SCALAR,
    "limitk": ValueType.SCALAR,
    "quantile": ValueType.SCALAR,
    "topk": ValueType.SCALAR,
}
"""Aggregations that take a parameter, and of what type."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes and gives. ``variadic`` more arguments of the last type may come (-1: any number), and the
    last may be missing."""

    args: tuple[ValueType, ...]
    returns: ValueType = ValueType.VECTOR
    variadic: int = 0


def _signatures() -> dict[str, Signature]:
    scalar, vector, matrix, string = ValueType.SCALAR, ValueType.VECTOR, ValueType.MATRIX, ValueType.STRING
    of_vector = (
        "abs absent acos acosh asin asinh atan atanh ceil cos cosh deg exp floor histogram_avg histogram_count "
        "histogram_stddev histogram_stdvar histogram_sum ln log10 log2 rad sgn sin sinh sort sort_desc sqrt "
        "start_timestamp tan tanh timestamp"
    )
    of_range = (
        "absent_over_time avg_over_time changes count_over_time delta deriv first_over_time idelta increase irate "
        "last_over_time mad_over_time max_over_time min_over_time present_over_time rate resets stddev_over_time "
        "stdvar_over_time sum_over_time ts_of_first_over_time ts_of_last_over_time ts_of_max_over_time "
        "ts_of_min_over_time"
    )
    dates = "day_of_month day_of_week day_of_year days_in_month hour minute month year"
    return {
        **dict.fromkeys(of_vector.split(), Signature((vector,))),
        **dict.fromkeys(of_range.split(), Signature((matrix,))),
        **dict.fromkeys(dates.split(), Signature((vector,), variadic=1)),
        **dict.fromkeys(["end", "pi", "range", "start", "step", "time"], Signature((), scalar)),
        **dict.fromkeys(["max_of", "min_of"], Signature((scalar, scalar), scalar)),
        **dict.fromkeys(["clamp_max", "clamp_min"], Signature((vector, scalar))),
        **dict.fromkeys(["sort_by_label", "sort_by_label_desc"], Signature((vector, string), variadic=-1)),
        "clamp": Signature((vector, scalar, scalar)),
        "double_exponential_smoothing": Signature((matrix, scalar, scalar)),
        "histogram_fraction": Signature((scalar, scalar, vector)),
        "histogram_quantile": Signature((scalar, vector)),
        "histogram_quantiles": Signature((vector, string, scalar, scalar), variadic=9),
        "info": Signature((vector, vector), variadic=1),
        "label_join": Signature((vector, string, string, string), variadic=-1),
        "label_replace": Signature((vector, string, string, string, string)),
        "predict_linear": Signature((matrix, scalar)),
        "quantile_over_time": Signature((scalar, matrix)),
        "round": Signature((vector, scalar), variadic=1),
        "scalar": Signature((vector,), scalar),
        "vector": Signature((scalar,)),
    }


FUNCTIONS = _signatures()


def value_type(node: Node) -> ValueType:
    """Return what an expression comes to."""
    match node:
        case Number():
            return ValueType.SCALAR
        case Text():
            return ValueType.STRING
        case Selector() | Aggregation():
            return ValueType.VECTOR
        case RangeSelector() | Subquery():
            return ValueType.MATRIX
        case Call(function=function):
            return FUNCTIONS[function].returns
        case Unary(expr=inner) | Paren(expr=inner):
            return value_type(inner)
        case Binary(scalar=scalar):
            return ValueType.SCALAR if scalar else ValueType.VECTOR
        case _:
            raise AssertionError(node)


def unparenthesized(node: Node) -> Node:
    """Return the expression in the parentheses, if there are any."""
    while isinstance(node, Paren):
        node = node.expr
    return node
