"""Conditions on records: a small language, read once and evaluated often; nothing of Python is ever run.

.. code-block:: none

    severity < warn and resource["service.name"] == "chatty"
    name matches "^http\\." or attributes["http.route"] in ["/healthz", "/ready"]
    not (duration > 500ms) and kind == server

``docs/processors.md`` lists the fields. What a record does not have is ``null``; no comparison with ``null`` is true
but ``== null``, and ``!=`` with anything else.

A condition is evaluated as soon as what is known decides it: of a resource first, then of a scope, a metric, a record
(`Known`). So a condition on the resource alone looks at no record.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from gateway.base.settings import parse_duration
from gateway.component.batch import Signal
from gateway.processors.common.messages import RESOURCE, SCOPE
from gateway.processors.common.patterns import Pattern, PatternError
from gateway.processors.common.values import Value, as_text, decode, find

MOST_CHARACTERS = 4096
_MAX_DEPTH = 50


class ConditionError(ValueError):
    """A condition that cannot be read. ``position`` counts its characters from 0."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} (character {position + 1} of the condition)")
        self.position = position


# -- what a condition is asked of --------------------------------------------------------------------------------------

_AT_RESOURCE, _AT_SCOPE, _AT_METRIC, _AT_RECORD = range(4)


class Known:
    """What is known of a record so far, from the outside in. Each part is read when it is asked for, and once."""

    __slots__ = ("_attributes", "_message", "_record", "_resource", "_scope", "depth", "kind", "metric", "raw")

    def __init__(self) -> None:
        self.depth = -1
        self.raw: dict[int, bytes] = {}
        self.metric: Any = None
        self.kind = ""
        self._resource: Any = None
        self._scope: Any = None
        self._record: Any = None
        self._message: Any = None

    def enter_resource(self, raw: bytes) -> None:
        """Go on to a resource."""
        self.depth, self._resource = _AT_RESOURCE, None
        self.raw[_AT_RESOURCE] = raw

    def enter_scope(self, raw: bytes) -> None:
        """Go on to a scope of the resource."""
        self.depth, self._scope = _AT_SCOPE, None
        self.raw[_AT_SCOPE] = raw

    def enter_metric(self, metric: Any, kind: str) -> None:
        """Go on to a metric of the scope."""
        self.depth, self.metric, self.kind = _AT_METRIC, metric, kind

    def enter_record(self, raw: bytes, message: Any) -> None:
        """Go on to a record of the scope or metric."""
        self.depth, self._record, self._message = _AT_RECORD, None, message
        self.raw[_AT_RECORD] = raw

    @property
    def resource(self) -> Any:
        """The resource, read."""
        if self._resource is None:
            self._resource = RESOURCE.FromString(self.raw[_AT_RESOURCE])
        return self._resource

    @property
    def scope(self) -> Any:
        """The scope, read."""
        if self._scope is None:
            self._scope = SCOPE.FromString(self.raw[_AT_SCOPE])
        return self._scope

    @property
    def record(self) -> Any:
        """The record, read."""
        if self._record is None:
            self._record = self._message.FromString(self.raw[_AT_RECORD])
        return self._record


class _Unknown:
    """Stands for what only a part further in decides."""


_UNKNOWN = _Unknown()

_Answer = bool | None
"""Whether a condition is true; None where that is not known yet."""
_Evaluate = Callable[[Known], _Answer]
_Read = Callable[[Known], Any]


class Condition:
    """A condition, ready to be asked. Raises `ConditionError`, with the place, for what is none."""

    def __init__(self, text: str) -> None:
        self.text = text
        parser = _Parser(text)
        self._evaluate = parser.read()
        self.signals = frozenset(parser.signals)
        """The signals whose records have everything that it asks for."""

    def __reduce__(self) -> tuple[type[Condition], tuple[str]]:
        """Go to another process as text: the settings of a hub with several workers do."""
        return Condition, (self.text,)

    def __repr__(self) -> str:
        return f"Condition({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Condition) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __call__(self, known: Known) -> bool | None:
        """Tell whether it is true; None where what is known does not decide that yet."""
        return self._evaluate(known)


def any_of(conditions: Iterable[Condition]) -> Callable[[Known], bool | None]:
    """Return what is true when any of the conditions is. Without any it is false."""
    return _either([each._evaluate for each in conditions])


def _either(parts: list[_Evaluate]) -> _Evaluate:
    if len(parts) == 1:
        return parts[0]

    def evaluate(known: Known) -> _Answer:
        answer: _Answer = False
        for part in parts:
            if one := part(known):
                return True
            if one is None:
                answer = None
        return answer

    return evaluate


def _all(parts: list[_Evaluate]) -> _Evaluate:
    def evaluate(known: Known) -> _Answer:
        answer: _Answer = True
        for part in parts:
            one = part(known)
            if one is False:
                return False
            if one is None:
                answer = None
        return answer

    return evaluate


def _not(part: _Evaluate) -> _Evaluate:
    def evaluate(known: Known) -> _Answer:
        answer = part(known)
        return None if answer is None else not answer

    return evaluate


# -- fields ------------------------------------------------------------------------------------------------------------

_SEVERITIES = ("unset", "trace", "debug", "info", "warn", "error", "fatal")
_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUSES = ("unset", "ok", "error")
_TYPES = ("none", "gauge", "sum", "histogram", "exponential_histogram", "summary")


@dataclass(frozen=True, slots=True)
class _Field:
    """Something that a condition asks for: of which signals, how deep it is, and how it is read.

    ``words`` are the only values that it has, where it has few; they are compared by their place in the list.
    """

    signals: frozenset[Signal]
    depth: int
    read: _Read
    words: tuple[str, ...] = ()
    is_duration: bool = False


def _severity(known: Known) -> int:
    """Return the level of a severity: 0 where there is none, then each four numbers one. Source: ``logs.proto``."""
    number: int = known.record.severity_number
    return (number + 3) // 4 if 0 < number <= 24 else 0


def _duration(known: Known) -> int:
    span = known.record
    return max(int(span.end_time) - int(span.start_time), 0)


def _body(known: Known) -> Value:
    value = decode(known.record.body)
    return None if value is None else as_text(value)


def _text_of(name: str) -> _Read:
    def read(known: Known) -> str | None:
        value: str = getattr(known.record, name)
        return value or None

    return read


def _hex_of(name: str) -> _Read:
    def read(known: Known) -> str | None:
        value: bytes = getattr(known.record, name)
        return value.hex() or None

    return read


_ALL = frozenset(Signal)
_LOGS, _TRACES, _METRICS = frozenset({Signal.LOGS}), frozenset({Signal.TRACES}), frozenset({Signal.METRICS})

_FIELDS: dict[str, _Field] = {
    "severity": _Field(_LOGS, _AT_RECORD, _severity, _SEVERITIES),
    "severity_number": _Field(_LOGS, _AT_RECORD, lambda known: known.record.severity_number),
    "severity_text": _Field(_LOGS, _AT_RECORD, _text_of("severity_text")),
    "body": _Field(_LOGS, _AT_RECORD, _body),
    "kind": _Field(_TRACES, _AT_RECORD, lambda known: known.record.kind, _KINDS),
    "status": _Field(_TRACES, _AT_RECORD, lambda known: known.record.status.code, _STATUSES),
    "status_message": _Field(_TRACES, _AT_RECORD, lambda known: known.record.status.message or None),
    "duration": _Field(_TRACES, _AT_RECORD, _duration, is_duration=True),
    "parent_span_id": _Field(_TRACES, _AT_RECORD, _hex_of("parent_span_id")),
    "trace_id": _Field(_LOGS | _TRACES, _AT_RECORD, _hex_of("trace_id")),
    "span_id": _Field(_LOGS | _TRACES, _AT_RECORD, _hex_of("span_id")),
    "type": _Field(_METRICS, _AT_METRIC, lambda known: _TYPES.index(known.kind), _TYPES),
    "unit": _Field(_METRICS, _AT_METRIC, lambda known: known.metric.unit or None),
    "scope.name": _Field(_ALL, _AT_SCOPE, lambda known: known.scope.name or None),
    "scope.version": _Field(_ALL, _AT_SCOPE, lambda known: known.scope.version or None),
}


def _name(known: Known) -> Any:
    """Return the name of a metric, which is known before its points are, of a span, or of an event."""
    if known.depth >= _AT_METRIC and known.metric is not None:
        return known.metric.name or None
    if known.depth < _AT_RECORD:
        return _UNKNOWN
    record = known.record
    name = record.event_name if hasattr(record, "event_name") else record.name
    return name or None


_NAME = _Field(_ALL, _AT_METRIC, _name)


def _record_attribute(key: str) -> _Read:
    within = key.encode()

    def read(known: Known) -> Value:
        # Most records that lack a key do not hold its bytes either, and need not be read.
        return find(known.record.attributes, key) if within in known.raw[_AT_RECORD] else None

    return read


_MAPPINGS: dict[str, tuple[int, Callable[[str], _Read]]] = {
    "attributes": (_AT_RECORD, _record_attribute),
    "resource": (_AT_RESOURCE, lambda key: lambda known: find(known.resource.attributes, key)),
    "scope": (_AT_SCOPE, lambda key: lambda known: find(known.scope.attributes, key)),
}
FIELDS = ("name", *_FIELDS, *(f'{each}["key"]' for each in _MAPPINGS))
"""What conditions may ask for."""


def _known_at(depth: int, read: _Read) -> _Read:
    """Return how something is read that is known from a depth on."""

    def at(known: Known) -> Any:
        return read(known) if known.depth >= depth else _UNKNOWN

    return at


# -- comparisons -------------------------------------------------------------------------------------------------------

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _equal(left: Value, right: Value) -> bool:
    # True is 1 to Python, and is not to anybody who compares attributes.
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def _comparison(read: _Read, sign: str, value: Value) -> _Evaluate:
    if sign in ("==", "!="):
        wanted = sign == "=="

        def equality(known: Known) -> _Answer:
            found = read(known)
            return None if found is _UNKNOWN else _equal(found, value) is wanted

        return equality
    compare = _ORDERS[sign]
    are_numbers = isinstance(value, int | float) and not isinstance(value, bool)

    def order(known: Known) -> _Answer:
        found = read(known)
        if found is _UNKNOWN:
            return None
        if are_numbers:
            return isinstance(found, int | float) and not isinstance(found, bool) and compare(found, value)
        return isinstance(found, str) and compare(found, value)

    return order


def _matching(read: _Read, accepts: Callable[[str], bool]) -> _Evaluate:
    def evaluate(known: Known) -> _Answer:
        found = read(known)
        if found is _UNKNOWN:
            return None
        return found is not None and accepts(as_text(found))

    return evaluate


def _or_none(read: _Read) -> _Read:
    return lambda known: read(known) or None


def _membership(read: _Read, values: list[Value]) -> _Evaluate:
    def evaluate(known: Known) -> _Answer:
        found = read(known)
        return None if found is _UNKNOWN else any(_equal(found, value) for value in values)

    return evaluate


# -- reading -----------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    | (?P<text>"(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*')
    | (?P<duration>\d+(?:\.\d+)?(?:ms|us|ns|s|m|h|d)(?![\w.]))
    | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<word>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)
    | (?P<sign>==|!=|<=|>=|<|>|[()\[\],])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_KEYWORDS = ("and", "or", "not", "in", "matches", "contains", "true", "false", "null")


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


class _Parser:
    def __init__(self, text: str) -> None:
        if len(text) > MOST_CHARACTERS:
            raise ConditionError(f"it is longer than {MOST_CHARACTERS} characters", MOST_CHARACTERS)
        self.signals = set(Signal)
        self._tokens = list(_tokens(text))
        self._at = 0
        self._depth = 0

    def read(self) -> _Evaluate:
        evaluate = self._either()
        if (token := self._next).kind != "end":
            raise ConditionError(f"expected 'and', 'or' or the end, found {_shown(token)}", token.position)
        return evaluate

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _is(self, text: str) -> bool:
        """Take a word or sign, if it comes next."""
        if self._next.kind in ("word", "sign") and self._next.text == text:
            self._at += 1
            return True
        return False

    def _expect(self, text: str, behind: str) -> None:
        token = self._next
        if not self._is(text):
            raise ConditionError(f"expected '{text}' {behind}, found {_shown(token)}", token.position)

    def _either(self) -> _Evaluate:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ConditionError("it is nested too deeply", self._next.position)
        parts = [self._all()]
        while self._is("or"):
            parts.append(self._all())
        self._depth -= 1
        return _either(parts)

    def _all(self) -> _Evaluate:
        parts = [self._not()]
        while self._is("and"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else _all(parts)

    def _not(self) -> _Evaluate:
        inverted = False
        while self._is("not"):
            inverted = not inverted
        if self._is("("):
            part = self._either()
            self._expect(")", "at the end of what is in parentheses")
        else:
            part = self._test()
        return _not(part) if inverted else part

    def _test(self) -> _Evaluate:
        field, about = self._field()
        inverted = self._is("not")
        token = self._take()
        if token.text == "matches" and token.kind == "word":
            evaluate = _matching(field.read, self._pattern(field, about))
        elif token.text == "contains" and token.kind == "word":
            self._refuse_words(field, about, token)
            wanted = self._text("contains")
            evaluate = _matching(field.read, lambda text: wanted in text)
        elif token.text == "in" and token.kind == "word":
            evaluate = _membership(field.read, self._values(field, about))
        elif inverted:
            raise ConditionError(f"expected 'in', 'matches' or 'contains', found {_shown(token)}", token.position)
        elif token.kind == "sign" and token.text in ("==", "!=", *_ORDERS):
            evaluate = self._comparison(field, about, token)
        else:
            expected = "a comparison: == != < <= > >= in matches contains"
            raise ConditionError(f"expected {expected}, found {_shown(token)}", token.position)
        return _not(evaluate) if inverted else evaluate

    def _field(self) -> tuple[_Field, str]:
        """Take a field; return it, and what it is called."""
        token = self._take()
        if token.kind != "word" or token.text in _KEYWORDS:
            raise ConditionError(f"expected a field, such as severity, found {_shown(token)}", token.position)
        name = token.text
        if name.removesuffix(".attributes") in ("resource", "scope"):
            name = name.removesuffix(".attributes")  # as the Collector writes it
        if name in _MAPPINGS and (self._next.text == "[" or name not in _FIELDS):
            depth, reading = _MAPPINGS[name]
            self._expect("[", f'behind {name}, as in {name}["key"]')
            key = self._text(f"{name}[")
            self._expect("]", "behind the key")
            return _Field(_ALL, depth, _known_at(depth, reading(key))), f'{name}["{key}"]'
        if name == "name":
            return _NAME, name
        found = _FIELDS.get(name)
        if found is None:
            hint = _suggestion(name, ["name", *_FIELDS, *_MAPPINGS])
            raise ConditionError(f"unknown field '{name[:60]}'{hint}", token.position)
        self.signals &= found.signals
        if not self.signals:
            raise ConditionError(f"no signal has {name} and what stands before it", token.position)
        return (
            _Field(found.signals, found.depth, _known_at(found.depth, found.read), found.words, found.is_duration),
            name,
        )

    def _comparison(self, field: _Field, about: str, sign: _Token) -> _Evaluate:
        position = self._next.position
        value = self._value(field, about)
        read = field.read
        if sign.text in _ORDERS:
            if value is None or isinstance(value, bool):
                raise ConditionError(f"'{sign.text}' compares numbers or texts", position)
            if field.words is _SEVERITIES:  # one that is not set is neither more nor less severe than another
                read = _or_none(read)
            elif field.words:
                raise ConditionError(f"{about} has no order; compare it by ==, != or in", sign.position)
        return _comparison(read, sign.text, value)

    def _pattern(self, field: _Field, about: str) -> Callable[[str], bool]:
        token = self._next
        self._refuse_words(field, about, token)
        text = self._text("matches")
        try:
            return Pattern(text).search
        except PatternError as error:
            raise ConditionError(str(error), token.position) from error

    @staticmethod
    def _refuse_words(field: _Field, about: str, token: _Token) -> None:
        if field.words or field.is_duration:
            raise ConditionError(f"{about} is no text; compare it by ==, < or in", token.position)

    def _text(self, behind: str) -> str:
        token = self._take()
        if token.kind != "text":
            raise ConditionError(f"expected a text in quotes behind {behind}, found {_shown(token)}", token.position)
        return _ESCAPED.sub(_unescaped, token.text[1:-1])

    def _values(self, field: _Field, about: str) -> list[Value]:
        self._expect("[", "behind 'in'")
        values = [self._value(field, about)]
        while self._is(","):
            values.append(self._value(field, about))
        self._expect("]", "at the end of the list")
        return values

    def _value(self, field: _Field, about: str) -> Value:
        token = self._take()
        if field.words:
            word = token.text[1:-1] if token.kind == "text" else token.text
            if token.kind not in ("word", "text") or word.lower() not in field.words:
                hint = _suggestion(word, field.words)
                if token.kind == "end":
                    raise ConditionError(f"expected a value of {about}, found the end{hint}", token.position)
                raise ConditionError(f"{about} has no value {_shown(token)}{hint}", token.position)
            return field.words.index(word.lower())
        if field.is_duration:
            if token.kind != "duration":
                raise ConditionError(
                    f"expected a duration such as 500ms behind {about}, found {_shown(token)}", token.position
                )
            return _nanoseconds(token.text)
        match token.kind:
            case "text":
                return _ESCAPED.sub(_unescaped, token.text[1:-1])
            case "number":
                return float(token.text) if re.search(r"[.eE]", token.text) else int(token.text)
            case "word" if token.text in ("true", "false"):
                return token.text == "true"
            case "word" if token.text == "null":
                return None
            case "word":
                raise ConditionError(f"expected a value, found {_shown(token)}; put a text in quotes", token.position)
            case _:
                raise ConditionError(f"expected a value, found {_shown(token)}", token.position)


def _tokens(text: str) -> Iterable[_Token]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            if text[position] in "\"'":
                raise ConditionError("a text without its closing quote", position)
            raise ConditionError(f"unexpected {text[position]!r}", position)
        kind = match.lastgroup or ""
        if kind != "space":
            yield _Token(kind, match[0], position)
        position = match.end()
    yield _Token("end", "", len(text))


def _suggestion(word: str, known: Iterable[str]) -> str:
    words = list(known)
    near = difflib.get_close_matches(word.lower(), words, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(words)}"


def _unescaped(match: re.Match[str]) -> str:
    # Anything else keeps its backslash, so that a pattern is written as it is elsewhere.
    return {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "\\": "\\"}.get(match[1], match[0])


def _shown(token: _Token) -> str:
    return "the end" if token.kind == "end" else repr(token.text[:60])


def _nanoseconds(text: str) -> int:
    for unit, factor in (("ns", 1), ("us", 1000)):
        if text.endswith(unit):
            return round(float(text.removesuffix(unit)) * factor)
    return round(parse_duration(text).total_seconds() * 1e9)
