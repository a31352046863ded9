"""JSON requests that were seen before but for the times and values of their points.

A client's collection repeats: the same text but for numbers, whose places in it move as they get longer or shorter. A
`JsonTemplate` is such a text without its numbers, and the protobuf bytes that it becomes, in which each number has
eight bytes in a place of its own. Where the numbers of another request are is told by its colons, each number being
behind one; when all that is left without them is the text of the template, the numbers are read at once and put in
their places.

This is safe, for all other text is compared, and what is put in place of a number is a JSON number again, or the digits
within the quotes of one: so both requests are the same JSON but for these. Where a number goes is not reckoned but
tried: the request is transcoded another time, with a different number in each place, and these are looked for in what
it becomes.
"""

from __future__ import annotations

import itertools
import re
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.component import TooLargeError

_MOST_BYTES = 32 * 2**20
"""What all templates may take: those of some 60,000 points, of about 500 bytes each."""

_SMALLEST, _LARGEST = 8 * 2**10, 4 * 2**20
"""Bytes of the requests that are remembered. Shorter ones, of less than 30 points, are transcoded as soon."""

_MOST_ALIKE = 8
_MOST_MISSED = 1024
_EACH = 2_000  # bytes that a template takes besides
_PATIENCE, _GRACE = 4, 32

_Places = npt.NDArray[np.int64]
_Words = npt.NDArray[np.uint64]

# What of a point is another number in each collection, as encoders write it. In text its quotes would be escaped.
_NUMBER = re.compile(
    rb'"(?:(?:timeUnixNano|startTimeUnixNano)"\s*:\s*"?(?P<time>[1-9][0-9]{18})(?![0-9.eE])'
    rb'|asDouble"\s*:\s*(?P<double>-?[0-9][0-9.eE+-]*)'
    rb'|asInt"\s*:\s*"?(?P<integer>-?[0-9]+)(?![0-9.eE]))'
)
_DIGITS = 19
_COLON = ord(":")

_decode_doubles = msgspec.json.Decoder(list[float]).decode
_decode_integers = msgspec.json.Decoder(list[int]).decode

# Numbers that stand in for others where it is tried which goes where. No two of them have the same eight bytes.
_TIMES, _INTEGERS = 4_051_807_301_297_431_042, 7_907_350_318_446_218_161
_DOUBLES = struct.unpack("<Q", struct.pack("<d", -8.712509630571354e-93))[0]


class _Numbers:
    """Of one kind: where each goes in protobuf's bytes, and behind which colon it is, from how many bytes after that to
    how many before the next."""

    __slots__ = ("after", "at", "before", "colon")

    def __init__(self, colon: _Places, after: _Places, before: _Places, at: _Places) -> None:
        self.colon, self.after, self.before, self.at = colon, after, before, at


class JsonTemplate:
    """A request without its numbers, and what it becomes.

    ``text`` is what is left of it without the values, ``times`` are the places of the times in that, and ``time_at``
    where these go in ``payload``. A request of less than half of ``size`` bytes does not fit: it may hold less.
    """

    def __init__(
        self,
        text: bytes,
        payload: bytes,
        times: _Places,
        time_at: _Places,
        doubles: _Numbers,
        integers: _Numbers,
        size: int,
    ) -> None:
        self._least = size // 2
        self._payload = payload
        self._times = times
        self._words = np.concatenate((times, times + 8, times + _DIGITS - 8))
        self._time_at = time_at
        self._doubles, self._integers = doubles, integers
        self._kinds = [numbers for numbers in (doubles, integers) if len(numbers.at)]
        order = np.argsort(np.concatenate([its.colon for its in self._kinds]), kind="stable") if self._kinds else None
        self._order = order if len(self._kinds) == 2 else None
        self._expected = self._blanked(bytearray(text))
        arrays = [times, self._words, time_at, *([] if self._order is None else [self._order])]
        arrays += [getattr(its, name) for its in (doubles, integers) for name in _Numbers.__slots__]
        self.cost = len(text) + len(payload) + sum(array.nbytes for array in arrays) + _EACH
        # Kept by `JsonTemplates`: when it was found last, and how long that was after the time before.
        self.found = self.gap = 0

    def read(self, body: bytes, colons: _Places) -> bytes | None:
        """Return what a request becomes, None for one that does not fit. ``colons`` are where those are in it, and its
        end."""
        if len(body) < self._least:
            return None
        begins = [colons[its.colon] + its.after for its in self._kinds]
        ends = [colons[its.colon + 1] - its.before for its in self._kinds]
        if any((begin >= end).any() for begin, end in zip(begins, ends, strict=True)):
            return None
        bounds = [(begin.tolist(), end.tolist()) for begin, end in zip(begins, ends, strict=True)]
        if self._order is None:
            cut_at, go_on_at = bounds[0] if bounds else ([], [])
        else:
            cut_at, go_on_at = (np.concatenate(its)[self._order].tolist() for its in (begins, ends))
        text = bytearray().join([body[i:j] for i, j in _between(cut_at, go_on_at, len(body))])
        if len(text) != len(self._expected):
            return None
        digits = np.ndarray((max(len(text) - _DIGITS + 1, 0), _DIGITS), np.uint8, text, strides=(1, 1))[self._times]
        digits -= np.uint8(ord("0"))  # what is less becomes very large
        if self._blanked(text) != self._expected:
            return None
        if digits.max(initial=0) > 9 or not digits[:, 0].all():
            return None
        out = bytearray(self._payload)
        words = _words(out)
        words[self._time_at] = _times(digits)
        try:
            for its, (begin, end) in zip(self._kinds, bounds, strict=True):
                listed = b"[" + b",".join([body[i:j] for i, j in zip(begin, end, strict=True)]) + b"]"
                words[its.at] = (_doubles if its is self._doubles else _integers)(listed, len(its.at))
        except (msgspec.DecodeError, ValueError, OverflowError):  # the first is one of the second in newer versions
            return None
        return bytes(out)

    def _blanked(self, text: bytearray) -> bytearray:
        _words(text)[self._words] = 0
        return text


def _words(data: bytes | bytearray) -> _Words:
    """Return the eight bytes that begin at each place as a number."""
    return np.ndarray((max(len(data) - 7, 0),), "<u8", data, strides=(1,))


def _times(digits: npt.NDArray[np.uint8]) -> _Words:
    """Return numbers of which the digits are given, 19 in a row."""
    twos = digits[:, 3::2] * np.uint8(10) + digits[:, 4::2]
    fours = twos[:, ::2].astype(np.uint16) * np.uint16(100) + twos[:, 1::2]
    eights = fours[:, ::2].astype(np.uint32) * np.uint32(10_000) + fours[:, 1::2]
    first = digits[:, :3].astype(np.uint64) @ np.array((100, 10, 1), np.uint64)
    return (first * np.uint64(10**8) + eights[:, 0]) * np.uint64(10**8) + eights[:, 1]


def _doubles(listed: bytes, count: int) -> _Words:
    """Return the bits of doubles of a JSON array. Raises `ValueError` where it holds others."""
    values = np.array(_decode_doubles(listed), np.float64)
    if len(values) != count:
        raise ValueError("a value is two")
    return values.view(np.uint64)


def _integers(listed: bytes, count: int) -> _Words:
    """Return the bits of integers of a JSON array. Raises `ValueError` and `OverflowError` where it holds others."""
    if listed.translate(None, b"0123456789-,") != b"[]":
        raise ValueError("what else stands in quotes, or is an exponent, is for others to read")
    values = np.array(_decode_integers(listed), np.int64)
    if len(values) != count:
        raise ValueError("a value is two")
    return values.view(np.uint64)


def learn(body: bytes, payload: bytes, transcode: Callable[[bytes], bytes | None]) -> JsonTemplate | None:
    """Make the template of a request that became these bytes; ``transcode`` tells what one would become of which no
    more is held than half of its bytes allow.

    None for one that is no good as a template: it has no numbers, or one of them is not found where it would go.
    """
    found = [(match.lastgroup, *match.span(match.lastgroup or 0)) for match in _NUMBER.finditer(body)]
    if not found or len(payload) < 8:
        return None
    kinds = np.array([("time", "double", "integer").index(kind or "") for kind, _, _ in found])
    begins, ends = (np.array([span[i] for span in found], np.int64) for i in (1, 2))
    colons = colons_of(body)
    colon = np.searchsorted(colons, begins) - 1
    if (np.diff(colon) < 1).any() or colon[0] < 0:
        return None
    # A request with a number of its own in each place, and where these are in what it becomes.
    places = np.zeros(len(found), np.int64)
    numbers: list[bytes] = [b""] * len(found)
    for kind, (base, written) in enumerate(_STAND_INS):
        its = np.flatnonzero(kinds == kind)
        for n, i in enumerate(its.tolist()):
            numbers[i] = written(base + n)
    parts = [body[i:j] for i, j in _between(begins.tolist(), ends.tolist(), len(body))]
    tried_body = b"".join(itertools.chain.from_iterable(itertools.zip_longest(parts, numbers, fillvalue=b"")))
    tried = transcode(tried_body)
    if tried is None:
        return None
    words = _words(tried)
    for kind, (base, _) in enumerate(_STAND_INS):
        its = np.flatnonzero(kinds == kind)
        which = words - np.uint64(base)  # below zero it is very large
        at = np.flatnonzero(which < len(its))
        which = which[at]
        if len(at) != len(its) or len(np.unique(which)) != len(its):
            return None
        places[its[which.astype(np.int64)]] = at
    if len(places) > 1 and np.diff(np.sort(places)).min() < 8:
        return None
    is_time = kinds == 0
    # In the text without values, times are so much further in front.
    lengths = np.where(is_time, 0, ends - begins)
    times = (begins - np.concatenate(([0], np.cumsum(lengths)[:-1])))[is_time]
    cut_at, go_on_at = begins[~is_time].tolist(), ends[~is_time].tolist()
    text = b"".join([body[i:j] for i, j in _between(cut_at, go_on_at, len(body))])
    after, before = begins - colons[colon], colons[colon + 1] - ends
    doubles, integers = (_Numbers(colon[its], after[its], before[its], places[its]) for its in (kinds == 1, kinds == 2))
    template = JsonTemplate(text, payload, times, places[is_time], doubles, integers, len(tried_body))
    if template.read(body, colons) != payload or template.read(tried_body, colons_of(tried_body)) != tried:
        return None
    return template


def _double(bits: int) -> bytes:
    return repr(struct.unpack("<d", struct.pack("<Q", bits))[0]).encode()


def _integer(number: int) -> bytes:
    return b"%d" % number


_STAND_INS: tuple[tuple[int, Callable[[int], bytes]], ...] = (
    (_TIMES, _integer),
    (_DOUBLES, _double),
    (_INTEGERS, _integer),
)


def _between(begins: list[int], ends: list[int], size: int) -> Iterator[tuple[int, int]]:
    """Return what lies between these stretches, before the first and behind the last of them."""
    return zip([0, *ends], [*begins, size], strict=True)


def colons_of(body: bytes) -> _Places:
    """Return where the colons of a request are, and where it ends."""
    at = np.flatnonzero(np.frombuffer(body, np.uint8) == _COLON)
    return np.append(at, len(body))


class JsonTemplates:
    """The templates that are known, of at most ``most`` bytes together.

    A request becomes one when it comes for the third time. A template that is in use is not given up for another: when
    more requests repeat than there is room for, those that are known stay known, and the others are transcoded.
    """

    def __init__(self, most: int = _MOST_BYTES) -> None:
        self._most = most
        self._lock = threading.Lock()  # requests are transcoded in threads
        self._size = self._now = 0
        self._by_count: dict[int, tuple[JsonTemplate, ...]] = {}
        self._order: OrderedDict[JsonTemplate, int] = OrderedDict()  # with how many colons; the one found last is last
        # Of requests that fitted none, by how many colons they have: a hash of the rest, and whether it is any good.
        self._missed: dict[int, tuple[int, bool]] = {}

    def find(self, body: bytes) -> bytes | None:
        """Return what a request becomes that fits a template."""
        if not self._order or len(body) < _SMALLEST:
            return None
        colons = colons_of(body)
        for template in self._by_count.get(len(colons), ()):
            if (payload := template.read(body, colons)) is not None:
                with self._lock:
                    if template in self._order:
                        self._now += 1
                        template.gap = max(self._now - template.found, template.gap // 2)
                        template.found = self._now
                        self._order.move_to_end(template)
                return payload
        return None

    def note(self, body: bytes, payload: bytes, transcode: Callable[[bytes], bytes | None]) -> None:
        """Say what a request became that fits no template; it may become one. ``transcode`` is as for `learn`."""
        if not _SMALLEST <= len(body) <= _LARGEST:
            return
        count = body.count(b":") + 1
        with self._lock:
            self._now += 1
            if count not in self._missed:
                self._remember(count, (0, True))  # to look closer is left for when it comes again
                return
        shape = hash(_NUMBER.sub(b"", body))
        with self._lock:
            before = self._missed.pop(count, None)
            self._remember(count, (shape, before != (shape, False)))
            if before != (shape, True) or not self._has_room(len(body) + len(payload) + _EACH, count):
                return
        try:
            template = learn(body, payload, transcode)
        except TooLargeError:
            template = None
        with self._lock:
            if template is None:
                self._remember(count, (shape, False))
            elif self._has_room(template.cost, count):
                self._by_count[count] = (*self._by_count.get(count, ()), template)
                template.found, template.gap = self._now, _GRACE
                self._order[template] = count
                self._size += template.cost

    def _remember(self, count: int, missed: tuple[int, bool]) -> None:
        self._missed[count] = missed
        if len(self._missed) > _MOST_MISSED:
            del self._missed[next(iter(self._missed))]

    def _has_room(self, cost: int, count: int) -> bool:
        """Tell whether there is room for a template of so many colons, once what is not in use any more is given up."""
        alike = self._by_count.get(count, ())
        if len(alike) < _MOST_ALIKE and self._size + cost <= self._most:
            return True
        for template in [*alike, *itertools.islice(list(self._order), _GRACE)]:
            if template in self._order and self._now - template.found > _PATIENCE * template.gap + _GRACE:
                self._give_up(template)
        return len(self._by_count.get(count, ())) < _MOST_ALIKE and self._size + cost <= self._most

    def _give_up(self, template: JsonTemplate) -> None:
        count = self._order.pop(template)
        self._size -= template.cost
        left = tuple(its for its in self._by_count[count] if its is not template)
        if left:
            self._by_count[count] = left
        else:
            del self._by_count[count]
