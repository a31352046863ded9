"""Regular expressions that take time in proportion to the text, whatever the text.

Python's own go back and try again, which some texts make take for ever; these are stepped through as the states of an
automaton, as RE2 does. So there are no back-references and no looking around. What there is: literals, ``.``, classes
(``[a-z]``, ``[^…]``, ``\\d \\w \\s`` and their opposites), groups, ``|``, ``* + ?``, ``{m,n}``, ``^ $ \\b \\B``, and
``(?i)`` at the beginning. A match is the leftmost one, and of these the longest.

Source of the construction: Ken Thompson, "Regular expression search algorithm" (1968), and Russ Cox, "Regular
Expression Matching Can Be Simple And Fast" (2007).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MOST_STEPS = 400
"""How large an expression may be: characters, classes and what repeats of them. A step of the search costs that much
at worst."""

_MOST_TRANSITIONS = 20_000
"""Transitions that are remembered, some MiB. Beyond it they are worked out anew."""

_MOST_REPEATS = 100
_MAX_DEPTH = 40


class PatternError(ValueError):
    """An expression that cannot be read. ``position`` counts its characters from 0."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} at character {position + 1} of the pattern")
        self.position = position


class Pattern:
    """A regular expression, ready to search with. Raises `PatternError`."""

    def __init__(self, text: str) -> None:
        self.text = text
        node = _Parser(text).read()
        self.literal = _literal_in(node)
        """A text that every match holds; empty where that is not easily told."""
        self._anywhere = _Automaton(node, anywhere=True)
        self._here = _Automaton(node)
        self._starts = _Automaton(_reversed(node), anywhere=True, backwards=True)

    def __reduce__(self) -> tuple[type[Pattern], tuple[str]]:
        """Go to another process as text: the settings of a hub with several workers do."""
        return Pattern, (self.text,)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def search(self, text: str) -> bool:
        """Tell whether a text holds a match."""
        if self.literal not in text:  # by far the quickest, and true of most
            return False
        state = self._anywhere.begin()
        for character in text:
            state = state[character]
            if state.hit:
                return True
        return state.hits_at_end()

    def fullmatch(self, text: str) -> bool:
        """Tell whether a text is a match as a whole."""
        state = self._here.begin()
        for character in text:
            state = state[character]
            if state.dead:
                return False
        return state.hits_at_end()

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return where the matches are that are not empty, in order; they do not overlap.

        Where finding the ends would take more than its share of time, all the rest of the text counts as one match.
        """
        if not self.search(text):
            return []
        starts: list[int] = []
        state = self._starts.begin()
        for index in range(len(text) - 1, -1, -1):
            state = state[text[index]]
            if state.hit:
                starts.append(index + 1)
        if state.hits_at_end():
            starts.append(0)
        found: list[tuple[int, int]] = []
        behind, budget = 0, 8 * len(text) + 1000
        for start in reversed(starts):
            if start < behind:
                continue
            end, steps = self._end(text, start)
            budget -= steps
            if budget < 0:
                found.append((start, len(text)))
                break
            if end > start:
                found.append((start, end))
                behind = end
        return found

    def _end(self, text: str, start: int) -> tuple[int, int]:
        """Return where the longest match that begins at ``start`` ends, and how many steps that took."""
        state = self._here.begin(text[start - 1] if start else None)
        end = start
        for index in range(start, len(text)):
            state = state[text[index]]
            if state.hit:
                end = index
            if state.dead:
                return end, index - start + 1
        return (len(text) if state.hits_at_end() else end), len(text) - start + 1


# -- what an expression says -------------------------------------------------------------------------------------------


class _One(NamedTuple):
    """One character of which this is true; ``literal`` where it is that one and no other."""

    accepts: Callable[[str], bool]
    literal: str = ""


class _Between(NamedTuple):
    """A place between two characters of which this is true. Each is None where the text ends."""

    accepts: Callable[[str | None, str | None], bool]


class _Sequence(NamedTuple):
    parts: tuple[_Node, ...]


class _Either(NamedTuple):
    parts: tuple[_Node, ...]


class _Repeat(NamedTuple):
    part: _Node
    least: int
    most: int | None


_Node = _One | _Between | _Sequence | _Either | _Repeat


def _reversed(node: _Node) -> _Node:
    match node:
        case _Sequence(parts):
            return _Sequence(tuple(_reversed(part) for part in reversed(parts)))
        case _Either(parts):
            return _Either(tuple(map(_reversed, parts)))
        case _Repeat(part, least, most):
            return _Repeat(_reversed(part), least, most)
        case _:
            return node


def _literal_in(node: _Node) -> str:
    """Return a text that every match holds, the longest that is easily told."""
    match node:
        case _One(literal=literal):
            return literal
        case _Repeat(part, least, _):
            return _literal_in(part) if least else ""
        case _Sequence(parts):
            found, run = [""], ""
            for part in parts:
                if isinstance(part, _One) and part.literal:
                    run += part.literal
                    continue
                found += [run, _literal_in(part)]
                run = ""
            return max([*found, run], key=len)
        case _:
            return ""


def _is_word(character: str | None) -> bool:
    return character is not None and (character.isalnum() or character == "_")


def _at_start(before: str | None, _: str | None) -> bool:
    return before is None


def _at_end(_: str | None, after: str | None) -> bool:
    return after is None


def _at_edge(before: str | None, after: str | None) -> bool:
    return _is_word(before) != _is_word(after)


def _not_at_edge(before: str | None, after: str | None) -> bool:
    return _is_word(before) == _is_word(after)


_CLASSES: dict[str, Callable[[str], bool]] = {
    "d": str.isdecimal,
    "w": _is_word,
    "s": str.isspace,
    "D": lambda character: not character.isdecimal(),
    "W": lambda character: not _is_word(character),
    "S": lambda character: not character.isspace(),
}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0"}
_EDGES = {"b": _at_edge, "B": _not_at_edge}


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ignore_case = text.startswith("(?i)")
        self._depth = 0
        self._size = 0
        if self._ignore_case:
            self._at = 4

    def read(self) -> _Node:
        node = self._either()
        if self._at < len(self._text):
            raise PatternError("unexpected ')'", self._at)
        if _size(node) > MOST_STEPS:
            raise PatternError(f"it is too large, more than {MOST_STEPS} characters once repeats are written out", 0)
        return node

    def _next(self) -> str:
        return self._text[self._at] if self._at < len(self._text) else ""

    def _either(self) -> _Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise PatternError("groups are nested too deeply", self._at)
        parts = [self._sequence()]
        while self._next() == "|":
            self._at += 1
            parts.append(self._sequence())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else _Either(tuple(parts))

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while (character := self._next()) and character not in "|)":
            part = self._one()
            parts.append(self._repeated(part))
        return parts[0] if len(parts) == 1 else _Sequence(tuple(parts))

    def _one(self) -> _Node:
        start = self._at
        character = self._text[start]
        self._at += 1
        match character:
            case "(":
                return self._group(start)
            case "[":
                return _One(self._class(start))
            case ".":
                return _One(lambda each: each != "\n")
            case "^":
                return _Between(_at_start)
            case "$":
                return _Between(_at_end)
            case "\\":
                return self._escaped(start)
            case "*" | "+" | "?":
                raise PatternError(f"'{character}' has nothing before it to repeat", start)
            case _:
                return self._literal(character)

    def _literal(self, literal: str) -> _One:
        if self._ignore_case:
            folded = literal.casefold()
            return _One(lambda each: each.casefold() == folded)
        return _One(lambda each: each == literal, literal)

    def _group(self, start: int) -> _Node:
        if self._next() == "?":
            if self._text[self._at : self._at + 2] != "?:":
                raise PatternError("expected '(?:' or '('; there is no looking around, and no option within", start)
            self._at += 2
        node = self._either()
        if self._next() != ")":
            raise PatternError("'(' without its ')'", start)
        self._at += 1
        return node

    def _escaped(self, start: int) -> _Node:
        character = self._next()
        if not character:
            raise PatternError("'\\' with nothing behind it", start)
        self._at += 1
        if character in _CLASSES:
            return _One(_CLASSES[character])
        if character in _EDGES:
            return _Between(_EDGES[character])
        if character in _ESCAPES:
            return self._literal(_ESCAPES[character])
        if character.isalnum():
            raise PatternError(f"'\\{character}' is not known", start)
        return self._literal(character)

    def _class(self, start: int) -> Callable[[str], bool]:
        negated = self._next() == "^"
        if negated:
            self._at += 1
        members: list[Callable[[str], bool]] = []
        first = True
        while first or self._next() != "]":
            first = False
            low = self._class_member(start)
            if not isinstance(low, str):
                members.append(low)
                continue
            high = low
            if self._next() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                at, self._at = self._at, self._at + 1
                end = self._class_member(start)
                if not isinstance(end, str) or end < low:
                    raise PatternError("a range that goes backwards, or has no end", at)
                high = end
            members.append(self._range(low, high))
        self._at += 1
        return lambda character: any(accepts(character) for accepts in members) != negated

    def _range(self, low: str, high: str) -> Callable[[str], bool]:
        if self._ignore_case:
            return lambda each: low <= each.lower() <= high or low <= each.upper() <= high or low <= each <= high
        return lambda each: low <= each <= high

    def _class_member(self, start: int) -> str | Callable[[str], bool]:
        character = self._next()
        if not character:
            raise PatternError("'[' without its ']'", start)
        self._at += 1
        if character != "\\":
            return character
        escaped = self._next()
        self._at += 1
        if escaped in _CLASSES and escaped:
            return _CLASSES[escaped]
        if not escaped or (escaped.isalnum() and escaped not in _ESCAPES):
            raise PatternError(f"'\\{escaped}' is not known in a class", self._at - 2)
        return _ESCAPES.get(escaped, escaped)

    def _repeated(self, part: _Node) -> _Node:
        start = self._at
        if not self._is_repeat():
            return part
        bounds = self._bounds()
        if isinstance(part, _Between):
            raise PatternError("a place between characters cannot be repeated", start)
        if self._is_repeat():
            raise PatternError("a repeat of a repeat", self._at)
        repeated = _Repeat(part, *bounds)
        if _size(repeated) > MOST_STEPS:
            raise PatternError(f"it repeats too much, more than {MOST_STEPS} characters", start)
        return repeated

    def _is_repeat(self) -> bool:
        return self._next() in ("*", "+", "?", "{")

    def _bounds(self) -> tuple[int, int | None]:
        character, start = self._next(), self._at
        if character != "{":
            self._at += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[character]
        inside, closed, _ = self._text[start + 1 :].partition("}")
        low, comma, high = inside.partition(",")
        if not closed or not low.isdecimal() or (high and not high.isdecimal()):
            raise PatternError("expected a repeat such as {3} or {1,64}; write '\\{' for the brace itself", start)
        self._at += len(inside) + 2
        least = int(low)
        most = least if not comma else int(high) if high else None
        if least > _MOST_REPEATS or (most is not None and (most > _MOST_REPEATS or most < least)):
            raise PatternError(f"expected a repeat of at most {_MOST_REPEATS} times, the lower bound first", start)
        return least, most


def _size(node: _Node) -> int:
    match node:
        case _Sequence(parts) | _Either(parts):
            return sum(map(_size, parts)) + 1
        case _Repeat(part, least, most):
            return _size(part) * max(least + 1 if most is None else most, 1) + 1
        case _:
            return 1


# -- how it is searched for --------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Place:
    """A state of the automaton before it is made deterministic: what to consume, or where to go without."""

    accepts: Callable[[str], bool] | None = None
    between: Callable[[str | None, str | None], bool] | None = None
    to: tuple[int, ...] = ()


_ACCEPT = 0


class _State(dict[str, "_State"]):
    """A state: by the character that is consumed, the next one.

    ``hit``: a match ended before the character that led here. ``dead``: none will any more.
    """

    __slots__ = ("before", "dead", "hit", "owner", "places")

    def __init__(self, owner: _Automaton, places: frozenset[int], before: str | None, *, hit: bool) -> None:
        super().__init__()
        self.owner, self.places, self.before, self.hit = owner, places, before, hit
        self.dead = not places

    def __missing__(self, character: str) -> _State:
        state = self[character] = self.owner.step(self, character)
        return state

    def hits_at_end(self) -> bool:
        """Tell whether a match ends where the text does."""
        return _ACCEPT in self.owner.closure(self, None)


class _Automaton:
    """Made deterministic as far as texts ask for it."""

    def __init__(self, node: _Node, *, anywhere: bool = False, backwards: bool = False) -> None:
        self._places = [_Place()]
        self._start = self._build(node, _ACCEPT)
        self._anywhere = anywhere
        self._backwards = backwards
        self._states: dict[tuple[frozenset[int], str | None, bool], _State] = {}
        self._transitions = 0

    def begin(self, before: str | None = None) -> _State:
        """Return the state to begin with behind a character, or at the start of the text."""
        return self._state(frozenset((self._start,)), before, hit=False)

    def step(self, state: _State, character: str) -> _State:
        """Return the state behind a character."""
        reached = self.closure(state, character)
        places = {
            place.to[0]
            for each in reached
            if (place := self._places[each]).accepts is not None and place.accepts(character)
        }
        if self._anywhere:
            places.add(self._start)
        self._transitions += 1
        if self._transitions > _MOST_TRANSITIONS:
            self._states, self._transitions = {}, 0
        return self._state(frozenset(places), character, hit=_ACCEPT in reached)

    def closure(self, state: _State, after: str | None) -> set[int]:
        """Return what a state reaches without consuming anything, before a character."""
        left, right = (after, state.before) if self._backwards else (state.before, after)
        reached: set[int] = set()
        to_do = list(state.places)
        while to_do:
            index = to_do.pop()
            if index in reached:
                continue
            place = self._places[index]
            if place.between is not None and not place.between(left, right):
                continue
            reached.add(index)
            if place.accepts is None:
                to_do += place.to
        return reached

    def _state(self, places: frozenset[int], before: str | None, *, hit: bool) -> _State:
        # Of the character before, only that counts which a place between two may ask for.
        kind = None if before is None else "w" if _is_word(before) else " "
        key = (places, kind, hit)
        found = self._states.get(key)
        if found is None:
            found = self._states[key] = _State(self, places, kind, hit=hit)
        return found

    def _add(self, place: _Place) -> int:
        self._places.append(place)
        return len(self._places) - 1

    def _build(self, node: _Node, following: int) -> int:
        """Add what a node needs; return where to begin with it, to go on with ``following`` behind it."""
        match node:
            case _One(accepts=accepts):
                return self._add(_Place(accepts, to=(following,)))
            case _Between(accepts):
                return self._add(_Place(between=accepts, to=(following,)))
            case _Sequence(parts):
                for part in reversed(parts):
                    following = self._build(part, following)
                return following
            case _Either(parts):
                return self._add(_Place(to=tuple(self._build(part, following) for part in parts)))
            case _Repeat(part, least, most):
                if most is None:
                    loop = self._add(_Place())
                    self._places[loop].to = (self._build(part, loop), following)
                    following = loop
                else:
                    behind = following
                    for _ in range(most - least):
                        following = self._add(_Place(to=(self._build(part, following), behind)))
                for _ in range(least):
                    following = self._build(part, following)
                return following
            case _:
                return following


def compile_all(texts: Sequence[str]) -> tuple[Pattern, ...]:
    """Return patterns for expressions. Raises `PatternError`."""
    return tuple(map(Pattern, texts))
