"""From the text of a PromQL query to its syntax tree, checked as Prometheus checks it.

By recursive descent, operators by their precedence. Nesting is bounded, so that no query exhausts the stack.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Literal, NoReturn

from gateway.query.errors import BadQueryError
from gateway.query.matching import Condition
from gateway.query.promql import nodes
from gateway.query.promql.lexer import NOT_METRICS, Token, duration, failure, is_label_name, number, tokens, unquoted
from gateway.query.promql.nodes import Node, ValueType, value_type
from gateway.query.regexes import regex
from gateway.query.series import METRIC_NAME, Matcher

MAX_LENGTH = 1 << 17
"""Characters of a query."""
MAX_NESTING = 80
"""Parentheses, calls and signs within each other."""
MAX_DEPTH = 200
"""Levels of the tree, such as operators in a chain."""

_PRECEDENCE = {
    "or": 1,
    **dict.fromkeys(("and", "unless"), 2),
    **dict.fromkeys(nodes.COMPARISONS | nodes.TRIMS, 3),
    **dict.fromkeys(("+", "-"), 4),
    **dict.fromkeys(("*", "/", "%", "atan2"), 5),
    "^": 6,
}
_LONGEST = 9_223_372_036_854
"""Milliseconds of a duration: what fits into 64 bits of nanoseconds."""
_SIGN = 5
"""A sign binds as multiplication does: weaker than a power."""


def parse(query: str, step: int = 1000, length: int = 1000) -> Node:
    """Return the tree of `query`. Raises `BadQueryError` with the place of what is wrong.

    `step` and `length` of the range that it is evaluated over (milliseconds) are what ``step()`` and ``range()`` in
    durations come to.
    """
    if len(query) > MAX_LENGTH:
        raise BadQueryError(f"the query has {len(query)} characters: at most {MAX_LENGTH} are allowed")
    # Few queries have such durations; all others are the same tree for each range.
    words = query.lower()
    return _parsed(query, step, length) if "step" in words or "range" in words else _parsed(query, 0, 0)


@functools.lru_cache(maxsize=4096)
def _parsed(query: str, step: int, length: int) -> Node:
    return _Parser(query, step, length).whole()


def parse_selector(query: str) -> tuple[Matcher, ...]:
    """Return the matchers of a vector selector, as ``match[]`` of the API has them. Raises `BadQueryError`."""
    node = parse(query)
    if not isinstance(node, nodes.Selector) or node.offset or node.time:
        raise failure(query, node.start, "expected a vector selector")
    return node.matchers


class _Parser:
    def __init__(self, query: str, step: int, length: int) -> None:
        self._query = query
        self._step = step
        self._length = length
        self._tokens = tokens(query)
        self._at = 0
        self._nesting = 0
        self._aggregations = 0

    # Words.

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _accept(self, *kinds: str) -> Token | None:
        return self._take() if self._next.kind in kinds else None

    def _expect(self, kind: str, context: str, expected: str) -> Token:
        if self._next.kind != kind:
            self._unexpected(context, expected)
        return self._take()

    def _unexpected(self, context: str, expected: str = "") -> NoReturn:
        token = self._next
        context = context or ("aggregation" if self._aggregations else "")
        if token.kind == "eof":
            what = "end of input"
        elif token.kind in ("identifier", "number", "duration"):
            what = f'{token.kind} "{token.text}"'
        else:
            what = f"string {token.text}" if token.kind == "string" else f"<{token.kind}>"
        if len(token.kind) < 3 and not token.kind.isalpha():
            what = f'"{token.kind}"'
        raise self._error(
            token.start,
            f"unexpected {what}"
            + (f" in {context}" if context else "")
            + (f", expected {expected}" if expected else ""),
        )

    def _error(self, at: int, message: str) -> BadQueryError:
        return failure(self._query, at, message)

    def _checked(self, node: Node) -> Node:
        if node.depth > MAX_DEPTH:
            raise self._error(node.start, f"expression has more than {MAX_DEPTH} levels")
        return node

    # Expressions.

    def whole(self) -> Node:
        if self._next.kind == "eof":
            raise self._error(0, "no expression found in input")
        node = self._expression(0)
        if self._next.kind != "eof":
            self._unexpected("")
        return node

    def _expression(self, precedence: int) -> Node:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise self._error(self._next.start, f"expressions are nested more than {MAX_NESTING} levels deep")
        left = self._signed()
        while (binding := _PRECEDENCE.get(self._next.kind, 0)) > precedence:
            operator = self._take()
            matching, bool_modifier = self._binary_modifiers()
            # Powers are done from right to left, all others from left to right.
            right = self._expression(binding - 1 if operator.kind == "^" else binding)
            left = self._checked(self._binary(operator, left, right, matching, bool_modifier))
        self._nesting -= 1
        return left

    def _signed(self) -> Node:
        sign = self._accept("-", "+")
        if sign is None:
            return self._postfix(self._primary())
        inner = self._expression(_SIGN)
        operator: Literal["-", "+"] = "-" if sign.kind == "-" else "+"
        if isinstance(inner, nodes.Number):
            return dataclasses.replace(inner, value=-inner.value if operator == "-" else inner.value, start=sign.start)
        if value_type(inner) not in (ValueType.SCALAR, ValueType.VECTOR):
            raise self._error(
                sign.start,
                "unary expression only allowed on expressions of type scalar or instant vector, "
                f'got "{value_type(inner).value}"',
            )
        return self._checked(nodes.Unary(operator, inner, start=sign.start, end=inner.end, depth=inner.depth + 1))

    def _primary(self) -> Node:
        token = self._next
        match token.kind:
            case "number":
                self._take()
                return nodes.Number(number(token.text), start=token.start, end=token.end)
            case "duration":
                self._take()
                return nodes.Number(self._milliseconds(token) / 1000, start=token.start, end=token.end)
            case "string":
                self._take()
                return nodes.Text(unquoted(self._query, token), start=token.start, end=token.end)
            case "(":
                self._take()
                inner = self._expression(0)
                close = self._expect(")", "", "")
                return self._checked(nodes.Paren(inner, start=token.start, end=close.end, depth=inner.depth + 1))
            case "{":
                return self._selector(None)
            case _ if not (token.kind == "identifier" or token.kind.isidentifier()) or token.kind in NOT_METRICS:
                self._unexpected("")
        if token.kind == "eof":
            self._unexpected("")
        after = self._tokens[self._at + 1].kind
        if token.kind in nodes.AGGREGATIONS and after in ("(", "by", "without"):
            return self._aggregation()
        if after == "(":
            return self._call()
        self._take()
        return self._selector(token)

    # Selectors and what may follow them.

    def _selector(self, name: Token | None) -> Node:
        matchers: list[Matcher] = []
        start = name.start if name else self._next.start
        end = name.end if name else 0
        if self._accept("{"):
            while not self._accept("}"):
                matchers.append(self._matcher())
                if not self._accept(","):
                    self._expect("}", "label matching", '"," or "}"')
                    break
            end = self._tokens[self._at - 1].end
        if name is not None:
            twice = next((matcher.value for matcher in matchers if matcher.name == METRIC_NAME), None)
            if twice is not None:
                raise self._error(start, f'metric name must not be set twice: "{name.text}" or "{twice}"')
            matchers.append(Matcher(METRIC_NAME, "=", name.text))
        return nodes.Selector(name.text if name else "", tuple(matchers), start=start, end=end)

    def _matcher(self) -> Matcher:
        token = self._next
        if token.kind not in ("identifier", "string"):
            self._unexpected("label matching", 'identifier or "}"')
        self._take()
        name = unquoted(self._query, token) if token.kind == "string" else token.text
        if token.kind == "string" and self._next.kind in (",", "}"):
            return Matcher(METRIC_NAME, "=", name)
        operator = self._next.kind
        if operator not in ("=", "!=", "=~", "!~"):
            self._unexpected("label matching", "label matching operator")
        self._take()
        value = unquoted(self._query, self._expect("string", "label matching", "string"))
        if operator in ("=~", "!~"):
            try:
                regex(value)
            except BadQueryError as error:
                raise self._error(token.start, str(error)) from None
        match operator:
            case "=" | "!=" | "=~" | "!~":
                return Matcher(name, operator, value)
        raise AssertionError(operator)

    def _postfix(self, node: Node) -> Node:
        """Parse what stands behind an expression: a range or a subquery, ``offset`` and ``@``."""
        while True:
            if open_ := self._accept("["):
                node = self._checked(self._range(node, open_))
            elif self._accept("offset"):
                node = self._offset(node)
            elif self._accept("@"):
                node = self._at_modifier(node)
            else:
                break
        if isinstance(node, nodes.Selector) and not self._selects(node):
            raise self._error(node.start, "vector selector must contain at least one non-empty matcher")
        return node

    @staticmethod
    def _selects(node: nodes.Selector) -> bool:
        return bool(node.name) or any(not Condition(matcher).takes_nothing for matcher in node.matchers)

    def _range(self, node: Node, open_: Token) -> Node:
        length = self._positive_duration("subquery or range selector")
        if self._accept(":"):
            step = None if self._next.kind == "]" else self._positive_duration("subquery selector")
            close = self._expect("]", "subquery selector", '"]"')
            if value_type(node) is not ValueType.VECTOR:
                raise self._error(
                    node.start,
                    f"subquery is only allowed on instant vector, got {_SHORT[value_type(node)]} instead",
                )
            return nodes.Subquery(node, length, step, start=node.start, end=close.end, depth=node.depth + 1)
        close = self._expect("]", "subquery or range", '":" or "]"')
        if not isinstance(node, nodes.Selector):
            raise self._error(open_.start, "ranges only allowed for vector selectors")
        if node.offset:
            raise self._error(open_.start, "no offset modifiers allowed before range")
        if node.time is not None:
            raise self._error(open_.start, "no @ modifiers allowed before range")
        if not self._selects(node):
            raise self._error(node.start, "vector selector must contain at least one non-empty matcher")
        return nodes.RangeSelector(node, length, start=node.start, end=close.end, depth=2)

    def _offset(self, node: Node) -> Node:
        shift = self._duration_operand("offset")
        token = self._tokens[self._at - 1]
        match node:
            case nodes.Selector(offset=0) | nodes.Subquery(offset=0):
                return dataclasses.replace(node, offset=shift, end=token.end)
            case nodes.RangeSelector(selector=nodes.Selector(offset=0)):
                return dataclasses.replace(
                    node, selector=dataclasses.replace(node.selector, offset=shift), end=token.end
                )
            case nodes.Selector() | nodes.Subquery() | nodes.RangeSelector():
                raise self._error(node.start, "offset may not be set multiple times")
        raise self._error(
            node.start,
            "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        )

    def _at_modifier(self, node: Node) -> Node:
        token = self._next
        if token.kind in ("start", "end"):
            self._take()
            self._expect("(", "@", "timestamp")
            last = self._expect(")", "@", "timestamp")
            time = nodes.Time("start" if token.kind == "start" else "end")
        else:
            sign = -1 if token.kind == "-" else 1
            self._accept("-", "+")
            last = self._next
            if last.kind not in ("number", "duration"):
                self._unexpected("@", "timestamp")
            self._take()
            seconds = sign * (number(last.text) if last.kind == "number" else self._milliseconds(last) / 1000)
            if not math.isfinite(seconds) or abs(seconds) > 9.2e15:
                raise self._error(last.start, f"timestamp out of bounds for @ modifier: {seconds:f}")
            time = nodes.Time(round(seconds * 1000))
        match node:
            case nodes.Selector(time=None) | nodes.Subquery(time=None):
                return dataclasses.replace(node, time=time, end=last.end)
            case nodes.RangeSelector(selector=nodes.Selector(time=None)):
                return dataclasses.replace(node, selector=dataclasses.replace(node.selector, time=time), end=last.end)
            case nodes.Selector() | nodes.Subquery() | nodes.RangeSelector():
                raise self._error(node.start, "@ <timestamp> may not be set multiple times")
        raise self._error(
            node.start,
            "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        )

    def _positive_duration(self, context: str) -> int:
        token = self._next
        length = self._duration(context, 0)
        if length <= 0:
            raise self._error(token.start, "duration must be greater than 0")
        return length

    def _duration(self, context: str, precedence: int) -> int:
        """Parse arithmetic between durations, and return what it comes to in milliseconds."""
        left = self._duration_operand(context)
        while self._next.kind in _PRECEDENCE and (binding := _PRECEDENCE[self._next.kind]) > max(precedence, 3):
            operator = self._take()
            right = self._duration(context, binding - 1 if operator.kind == "^" else binding)
            left = self._combined(operator, left, right)
        return left

    def _duration_operand(self, context: str) -> int:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise self._error(self._next.start, f"expressions are nested more than {MAX_NESTING} levels deep")
        token = self._next
        if token.kind not in ("number", "duration", "-", "+", "(", "step", "range", "min_of", "max_of"):
            self._unexpected(context, "number, duration, step(), or range()")
        self._take()
        if token.kind in ("-", "+"):
            # As in expressions, a power binds stronger than a sign.
            inner = self._duration_operand(context)
            while context != "offset" and self._next.kind == "^":
                inner = self._combined(self._take(), inner, self._duration(context, _PRECEDENCE["^"] - 1))
            result = -inner if token.kind == "-" else inner
        elif token.kind == "(":
            result = self._duration("duration", 0)
            self._expect(")", "duration", '")"')
        elif token.kind in ("step", "range"):
            self._expect("(", "duration", '"("')
            self._expect(")", "duration", '")"')
            result = self._step if token.kind == "step" else self._length
        elif token.kind in ("min_of", "max_of"):
            self._expect("(", "duration", '"("')
            one = self._duration("duration", 0)
            self._expect(",", "duration", '","')
            two = self._duration("duration", 0)
            self._expect(")", "duration", '")"')
            result = min(one, two) if token.kind == "min_of" else max(one, two)
        else:
            result = self._milliseconds(token)
        self._nesting -= 1
        return result

    def _combined(self, operator: Token, left: int, right: int) -> int:
        """Return an operation between durations. Both are numbers of seconds, whatever their unit would be."""
        one, two = left / 1000, right / 1000
        if operator.kind in ("/", "%") and two == 0:
            raise self._error(operator.start, "division by zero" if operator.kind == "/" else "modulo by zero")
        try:
            match operator.kind:
                case "+":
                    seconds = one + two
                case "-":
                    seconds = one - two
                case "*":
                    seconds = one * two
                case "/":
                    seconds = one / two
                case "%":
                    seconds = math.fmod(one, two)
                case "^":
                    seconds = math.pow(one, two)
                case _:
                    self._at -= 1
                    self._unexpected("duration")
        except (OverflowError, ValueError):
            seconds = math.inf
        if not math.isfinite(seconds) or abs(seconds) > _LONGEST / 1000:
            raise self._error(operator.start, "duration out of range")
        return int(seconds * 1000)

    def _milliseconds(self, token: Token) -> int:
        length: int | None
        if token.kind == "duration":
            length = duration(token.text)
            if length is None:
                raise self._error(token.start, f'not a valid duration string: "{token.text}"')
        else:
            seconds = number(token.text)
            length = round(seconds * 1000) if math.isfinite(seconds) and abs(seconds) < 9.2e9 else None
        if length is None or abs(length) > _LONGEST:
            raise self._error(token.start, "duration out of range")
        return length

    # Calls and aggregations.

    def _arguments(self, context: str, info: bool = False) -> tuple[list[Node], int]:
        """``info``: those of info(), whose second one is a selector that all series may match."""
        self._expect("(", context, '"("')
        args: list[Node] = []
        if close := self._accept(")"):
            return args, close.end
        while True:
            plain = info and len(args) == 1 and self._next.kind == "{"
            args.append(self._selector(None) if plain else self._expression(0))
            if comma := self._accept(","):
                if self._next.kind == ")":
                    raise self._error(comma.start, "trailing commas not allowed in function call args")
                continue
            return args, self._expect(")", context, "").end

    def _call(self) -> Node:
        token = self._take()
        name = token.text
        signature = nodes.FUNCTIONS.get(name)
        if signature is None:
            raise self._error(token.start, f'unknown function with name "{name}"')
        args, end = self._arguments("", info=name == "info")
        least = len(signature.args) - (signature.variadic != 0)
        most = least + signature.variadic if signature.variadic > 0 else len(signature.args)
        if signature.variadic == 0 and len(args) != least:
            raise self._error(token.start, f'expected {least} argument(s) in call to "{name}", got {len(args)}')
        if len(args) < least:
            raise self._error(
                token.start, f'expected at least {least} argument(s) in call to "{name}", got {len(args)}'
            )
        if signature.variadic > 0 and len(args) > most:
            raise self._error(token.start, f'expected at most {most} argument(s) in call to "{name}", got {len(args)}')
        if name == "info":
            self._check_info(args)
        for position, arg in enumerate(args):
            expected = signature.args[min(position, len(signature.args) - 1)]
            if value_type(arg) is not expected:
                raise self._error(
                    arg.start,
                    f'expected type {expected.value} in call to function "{name}", got {value_type(arg).value}',
                )
        depth = 1 + max((arg.depth for arg in args), default=0)
        return self._checked(nodes.Call(name, tuple(args), start=token.start, end=end, depth=depth))

    def _check_info(self, args: list[Node]) -> None:
        if len(args) > 1:
            if isinstance(args[1], nodes.Selector) and args[1].name:
                raise self._error(args[1].start, "expected label selectors only, got vector selector instead")
            if not isinstance(args[1], nodes.Selector):
                raise self._error(args[1].start, "expected label selectors only")

    def _aggregation(self) -> Node:
        token = self._take()
        grouping = self._grouping()
        self._aggregations += 1
        args, end = self._arguments("aggregation")
        self._aggregations -= 1
        if grouping is None:
            grouping = self._grouping()
            end = self._tokens[self._at - 1].end
        without, labels = grouping or (False, ())
        wanted = 2 if token.kind in nodes.PARAMETERS else 1
        if not args:
            raise self._error(token.start, "no arguments for aggregate expression provided")
        if len(args) != wanted:
            raise self._error(
                token.start,
                f"wrong number of arguments for aggregate expression provided, expected {wanted}, got {len(args)}",
            )
        if value_type(args[-1]) is not ValueType.VECTOR:
            raise self._error(
                args[-1].start,
                f"expected type instant vector in aggregation expression, got {value_type(args[-1]).value}",
            )
        parameter = args[0] if wanted == 2 else None
        if parameter is not None and value_type(parameter) is not nodes.PARAMETERS[token.kind]:
            raise self._error(
                parameter.start,
                f"expected type {nodes.PARAMETERS[token.kind].value} in aggregation parameter, "
                f"got {value_type(parameter).value}",
            )
        depth = 1 + max(arg.depth for arg in args)
        return self._checked(
            nodes.Aggregation(token.kind, args[-1], parameter, labels, without, start=token.start, end=end, depth=depth)
        )

    def _grouping(self) -> tuple[bool, tuple[str, ...]] | None:
        token = self._accept("by", "without")
        return None if token is None else (token.kind == "without", self._labels())

    def _labels(self) -> tuple[str, ...]:
        self._expect("(", "grouping opts", '"("')
        labels: list[str] = []
        while not self._accept(")"):
            token = self._next
            if token.kind == "string":
                name = unquoted(self._query, token)
            elif token.kind == "identifier" or (token.text and token.kind.isidentifier()):
                name = token.text
            else:
                self._unexpected("grouping opts", "label")
            if not is_label_name(name):
                raise self._error(token.start, f'invalid label name for grouping: "{name}"')
            self._take()
            labels.append(name)
            if not self._accept(","):
                self._expect(")", "grouping opts", '"," or ")"')
                break
        return tuple(labels)

    # Binary operations.

    def _binary_modifiers(self) -> tuple[nodes.Matching, bool]:
        bool_modifier = self._accept("bool") is not None
        matching = nodes.Matching()
        if side := self._accept("on", "ignoring"):
            matching = nodes.Matching(on=side.kind == "on", labels=self._labels())
            if group := self._accept("group_left", "group_right"):
                include = self._labels() if self._next.kind == "(" else ()
                matching = dataclasses.replace(
                    matching, group="left" if group.kind == "group_left" else "right", include=include
                )
        while fill := self._accept("fill", "fill_left", "fill_right"):
            value = self._fill_value()
            left = value if fill.kind != "fill_right" else matching.fill_left
            right = value if fill.kind != "fill_left" else matching.fill_right
            matching = dataclasses.replace(matching, fill_left=left, fill_right=right)
        return matching, bool_modifier

    def _fill_value(self) -> float:
        self._expect("(", "fill", '"("')
        sign = -1.0 if self._next.kind == "-" else 1.0
        self._accept("-", "+")
        token = self._next
        if token.kind not in ("number", "duration"):
            self._unexpected("fill", "number or duration")
        self._take()
        self._expect(")", "fill", '")"')
        return sign * (number(token.text) if token.kind == "number" else self._milliseconds(token) / 1000)

    def _binary(self, operator: Token, left: Node, right: Node, matching: nodes.Matching, bool_modifier: bool) -> Node:
        op = operator.kind
        kinds = (value_type(left), value_type(right))
        scalars = kinds.count(ValueType.SCALAR)
        if bool_modifier and op not in nodes.COMPARISONS:
            raise self._error(operator.start, "bool modifier can only be used on comparison operators")
        if op in nodes.COMPARISONS and not bool_modifier and scalars == 2:
            raise self._error(operator.start, "comparisons between scalars must use BOOL modifier")
        if matching.on and (shared := set(matching.labels).intersection(matching.include)):
            raise self._error(operator.start, f'label "{min(shared)}" must not occur in ON and GROUP clause at once')
        for side, kind in zip((left, right), kinds, strict=True):
            if kind not in (ValueType.SCALAR, ValueType.VECTOR):
                raise self._error(side.start, "binary expression must contain only scalar and instant vector types")
        filled = matching.fill_left is not None or matching.fill_right is not None
        if scalars and matching.labels:
            raise self._error(left.start, "vector matching only allowed between instant vectors")
        if scalars and filled:
            raise self._error(left.start, "filling in missing series only allowed between instant vectors")
        if op in nodes.SET_OPERATORS:
            if scalars:
                raise self._error(left.start, f'set operator "{op}" not allowed in binary scalar expression')
            if matching.group:
                raise self._error(left.start, f'no grouping allowed for "{op}" operation')
            if filled:
                raise self._error(left.start, "filling in missing series not allowed for set operators")
        return nodes.Binary(
            op,
            left,
            right,
            None if scalars else matching,
            bool_modifier,
            scalars == 2,
            start=left.start,
            end=right.end,
            depth=1 + max(left.depth, right.depth),
        )


_SHORT = {
    ValueType.SCALAR: "scalar",
    ValueType.VECTOR: "vector",
    ValueType.MATRIX: "matrix",
    ValueType.STRING: "string",
}
