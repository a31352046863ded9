"""Requests that were seen before but for their times and values.

A client's collection repeats: the same series in the same order, in bytes that differ in times, start times and values
alone, each of them eight bytes in a place of its own. A `Template` is such a request with these places blanked, and
what was found in it: the series of each point, and where its numbers are. One that is equal to it, once the same places
are blanked, holds the same points, whatever the order of its fields: nothing of it is decoded, all numbers are gathered
at once.

This is safe, for the comparison is of all other bytes, tags and lengths included: what is blanked are contents of
fields of fixed length, so that both requests are one protobuf message but for the numbers in them. Points that cannot
be read like that (histograms, points with exemplars or flags) are blanked as a whole, behind their length, and are
decoded each time.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from exporters.timescale.heads import START, TIME, VALUE, layout_of
from exporters.timescale.large_moments import LargeMoment
from exporters.timescale.moments import MOST_MEMBERS, Moment
from exporters.timescale.points import NumberPoints
from gateway.base.slices import Steps
from gateway.component import Soundness
from gateway.otlp import wire_format

_Places = npt.NDArray[np.intp]
_Probe = tuple[tuple[int, int], ...]

Gathered = tuple[npt.NDArray[np.uint64], ...]
"""Times, values and starts of the points of which each is read."""

_MOST_BYTES = 128 * 2**20
"""What all templates may take: those of a million points of 100 bytes."""

_PACE = 1024
_MOST_ALIKE = 8
_MOST_SEEN = 4096
_PATIENCE = 4
_LOOKED_AT = 32
_EACH = 2_000  # bytes that a template takes besides


class Metric(msgspec.Struct, frozen=True, gc=False):
    """A metric of a request: its points, how many, and whose they are."""

    resource_id: int
    scope_id: int
    key: Any
    count: int

    @property
    def is_number(self) -> bool:
        """Whether its points are number points."""
        return self.key.type in ("gauge", "sum")


class Opaque(msgspec.Struct, frozen=True, gc=False):
    """A point that is to be decoded: where it is, and for a number point its place among those of the request."""

    metric: int
    place: int
    begin: int
    end: int


class Template:
    """A request with blanks, and what it holds.

    ``weight`` is how many records are in it, and what holds them; ``places`` are where the times, values and starts of
    its points are.
    """

    def __init__(
        self,
        payload: bytes,
        metrics: Sequence[Metric],
        points: NumberPoints,
        opaque: Sequence[Opaque],
        regular: _Places,
        starts: _Places,
        at: Sequence[_Places],
        weight: int,
    ) -> None:
        self.metrics = metrics
        self.opaque = opaque
        self.weight = weight
        self.cost = 0
        self._count = len(points)
        self._series, self._kind, self._metric, self._metrics = (
            points.series,
            points.kind,
            points.metric,
            points.metrics,
        )
        # Which points are not opaque, and which of these have a start; None for all.
        self._regular = None if len(regular) == self._count else regular
        self._starts = None if len(starts) == self._count else starts
        self.places = at
        self.stream = int(points.series[0])
        self.expected = self._blanked(payload)
        self._bytes = np.frombuffer(self.expected, np.uint8)
        self.moment: Moment | LargeMoment | None = None
        # A number of as many bytes is compared sooner than arrays are, as long as it is not large.
        self._mask = self._masked = 0
        if self._count <= MOST_MEMBERS and not opaque:
            self.moment = self._moment()
            self.cost = 2 * len(payload) + self.moment.cost
            self._mask = int.from_bytes(self._blanked(b"\xff" * len(payload)), "little")
            self._masked = int.from_bytes(self.expected, "little")
        elif self._regular is None:
            self.moment = LargeMoment(points, len(starts))
        self.probe = _probe(np.concatenate(at), opaque, len(payload))
        arrays = [self._series, self._kind, self._metric, self._regular, self._starts, *at]
        self.cost += len(payload) + sum(array.nbytes for array in arrays if array is not None)
        self.cost += _EACH + 200 * len(metrics) + 100 * len(opaque)
        self.metric_ids = {metric.metric_id for metric in points.metrics}
        """Those of its number points."""
        self.noted: tuple[int, ...] = ()
        """Minutes of its points in which its metrics were last said to be observed."""
        self._soundness = Soundness()
        # Kept by `Templates`: when it was found last, and how long that was after the time before.
        self.found = self.gap = 0

    def fit(self, payload: bytes) -> Fit | None:
        """Return a request of this length as one that is equal to this one but for what is blanked; None if it is not.

        Blanks are 0 here. So when there are as many bytes that differ as there are in blanks other than 0, all of those
        that differ are in blanks.
        """
        if self._mask:
            return Fit(self, payload) if int.from_bytes(payload, "little") & self._mask == self._masked else None
        its = np.frombuffer(payload, np.uint8)
        numbers = _numbers(payload)
        gathered = tuple([numbers[places] for places in self.places])
        in_blanks = sum(int(np.count_nonzero(each.view(np.uint8))) for each in gathered)
        in_blanks += sum(int(np.count_nonzero(its[each.begin : each.end])) for each in self.opaque)
        return Fit(self, payload, gathered) if np.count_nonzero(its != self._bytes) == in_blanks else None

    def share(self, soundness: Soundness) -> None:
        """Say of a request that fits what is known of one before, or listen to what others will find of it.

        What differs between them are numbers, which anybody can read, as long as no point is opaque.
        """
        if self.opaque:
            return
        if self._soundness.records is None:
            self._soundness = soundness
        elif soundness.records is None:
            soundness.records = self._soundness.records

    def _moment(self) -> Moment:
        """Return how to read it where all its points are of one moment."""
        time, value, start = self.places
        has_start = np.zeros(self._count, bool)
        has_start[slice(None) if self._starts is None else self._starts] = True
        return Moment(self._series, self._kind, has_start, self._metric, self._metrics, time, value, start)

    def _blanked(self, payload: bytes) -> bytearray:
        copy = bytearray(payload)
        numbers = _numbers(copy)
        for places in self.places:
            numbers[places] = 0
        for each in self.opaque:
            copy[each.begin : each.end] = bytes(each.end - each.begin)
        return copy

    def points(self, payload: bytes, gathered: Gathered | None = None) -> NumberPoints:
        """Return the number points of a request that fits. The times and values of those that are opaque are 0."""
        if gathered is None:
            numbers = _numbers(payload)
            gathered = tuple([numbers[places] for places in self.places])
        of = (self._regular, self._regular, self._starts)
        time, value, start = (self._spread(places, its) for places, its in zip(of, gathered, strict=True))
        return NumberPoints(self._series, time, start, value, self._kind, None, self._metric, self._metrics)

    def _spread(self, places: _Places | None, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        if places is None:
            return numbers
        spread = np.zeros(self._count, np.uint64)
        spread[places] = numbers
        return spread


def _numbers(data: bytes | bytearray) -> npt.NDArray[np.uint64]:
    """Return the eight bytes that begin at each place as a number."""
    return np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))


class Fit(NamedTuple):
    """A request that fits a template, and its numbers where they were gathered to find that out."""

    template: Template
    payload: bytes
    gathered: Gathered | None = None

    def points(self) -> NumberPoints:
        """Return its number points. The times and values of those that are opaque are 0."""
        return self.template.points(self.payload, self.gathered)


_GAPS, _GAP = 8, 256


def _probe(blanks: _Places, opaque: Sequence[Opaque], size: int) -> _Probe:
    """Return some of the bytes that are not blanked, as slices: those of the longest stretches, as resources are."""
    begins = np.concatenate((blanks, np.array([each.begin for each in opaque], np.intp)))
    ends = np.concatenate((blanks + 8, np.array([each.end for each in opaque], np.intp)))
    order = np.argsort(begins)
    gap_begins = np.concatenate(([0], ends[order]))
    gap_ends = np.concatenate((begins[order], [size]))
    longest = np.sort(np.argsort(gap_begins - gap_ends, kind="stable")[:_GAPS])
    return tuple((int(gap_begins[i]), int(min(gap_ends[i], gap_begins[i] + _GAP))) for i in longest)


def learn(
    payload: bytes, metrics: Sequence[Metric], points: NumberPoints, apart: Sequence[int], weight: int
) -> Steps[Template | None]:
    """Make the template of a request that was decoded.

    ``metrics`` are those that have points, in their order; ``points`` all number points, ``apart`` the places of those
    that were decoded on their own. None for a request that is no good as a template: most of its points would have to
    be decoded, or it is written in a way that no encoder writes.
    """
    try:
        spans = yield from _point_spans(payload)
    except wire_format.BrokenError:
        return None
    counts = [metric.count for metric in metrics]
    begins, ends = spans[::2], spans[1::2]
    if 2 * sum(counts) != len(spans) or len(payload) < 8:
        return None
    of = np.repeat(np.arange(len(metrics)), counts)
    is_number = np.array([metric.is_number for metric in metrics], bool)[of]
    in_request = np.flatnonzero(is_number)  # of each number point, among all
    is_regular = np.ones(len(in_request), bool)
    is_regular[list(apart)] = False
    regular = np.flatnonzero(is_regular)
    if len(in_request) != len(points) or 2 * len(regular) < len(of):
        return None
    where = _Where(metrics, payload, begins, ends)
    whose, its_begins, its_ends = of[in_request[regular]], begins[in_request[regular]], ends[in_request[regular]]
    time_at, value_at = (where.of(field, whose, its_begins, its_ends) for field in (TIME, VALUE))
    has_start = where.has_start[whose]
    starts = regular[has_start]
    start_at = where.of(START, whose[has_start], its_begins[has_start], its_ends[has_start])
    is_opaque = np.ones(len(of), bool)
    is_opaque[in_request[regular]] = False
    place_of = np.full(len(of), -1)
    place_of[in_request] = np.arange(len(in_request))
    opaque = [
        Opaque(int(of[i]), int(place_of[i]), int(begins[i]), int(ends[i])) for i in np.flatnonzero(is_opaque).tolist()
    ]
    places = (time_at, value_at, start_at)
    if (np.diff(np.sort(np.concatenate(places))) < 8).any():  # `Template.fit` counts each byte of them once
        return None
    found = Template(payload, metrics, points, opaque, regular, starts, places, weight)
    # What was decoded must be what is read by the template; it is not where a message stands in several pieces.
    read = found.points(payload)
    same = all(
        np.array_equal(its[regular], decoded[regular])
        for its, decoded in ((read.time, points.time), (read.value, points.value), (read.start, points.start))
    )
    return found if same else None


class _Where:
    """Where the numbers are in the points of each metric."""

    def __init__(
        self, metrics: Sequence[Metric], payload: bytes, begins: npt.NDArray[np.intp], ends: npt.NDArray[np.intp]
    ) -> None:
        count = len(metrics)
        self.has_start = np.zeros(count, bool)
        self._from_end = {field: np.zeros(count, bool) for field in (TIME, VALUE, START)}
        self._offset = {field: np.zeros(count, np.intp) for field in (TIME, VALUE, START)}
        first = 0
        for number, metric in enumerate(metrics):
            layout = layout_of(payload[begins[first] : ends[first]]) if metric.is_number else None
            first += metric.count
            if layout is None:  # all its points are opaque
                continue
            for field in layout.fields:
                self._from_end[field][number], self._offset[field][number] = layout.place(field)
            self.has_start[number] = START in layout.fields

    def of(self, field: str, metric: _Places, begins: _Places, ends: _Places) -> _Places:
        """Return where a field begins in points, of each of which metric, begin and end are given."""
        return np.where(self._from_end[field][metric], ends, begins) + self._offset[field][metric]


_DATA = (5, 7, 9, 10, 11)
_POINT, _TEMPORALITY, _IS_MONOTONIC = 0x0A, 0x10, 0x18


def _point_spans(payload: bytes) -> Steps[_Places]:
    """Return where each point of a request begins, and where it ends. Raises `wire_format.BrokenError`."""
    spans: list[int] = []
    for begin, end in _inner(payload, 0, len(payload), 1):
        for scope_begin, scope_end in _inner(payload, begin, end, 2):
            for metric_begin, metric_end in _inner(payload, scope_begin, scope_end, 2):
                for data_begin, data_end in _inner(payload, metric_begin, metric_end, *_DATA):
                    yield from _of_data(payload, data_begin, data_end, spans)
                yield None
    return np.array(spans, np.intp)


def _inner(payload: bytes, begin: int, end: int, *numbers: int) -> Iterator[tuple[int, int]]:
    """Yield where the messages in these fields of a message begin and end."""
    for number, wire_type, _, content, after in wire_format.fields(payload[begin:end]):
        if number in numbers and wire_type == wire_format.LENGTH:
            yield begin + content, begin + after


def _of_data(payload: bytes, at: int, end: int, spans: list[int]) -> Steps[None]:
    """Add where the points of a gauge, a sum or the like are."""
    since = len(spans)
    while at < end:
        tag, length = payload[at], payload[at + 1]
        at += 2
        if tag == _POINT:
            if length > 0x7F:
                if payload[at] > 0x7F:
                    raise wire_format.BrokenError("a point of more than 16 KiB is no part of a template")
                length = length & 0x7F | payload[at] << 7
                at += 1
            spans.append(at)
            at += length
            spans.append(at)
            if len(spans) - since > 2 * _PACE:
                since = len(spans)
                yield None
        elif tag not in (_TEMPORALITY, _IS_MONOTONIC) or length > 0x7F:
            raise wire_format.BrokenError("it holds what no encoder writes")


class Templates:
    """The templates that are known, of at most ``most`` bytes together.

    One that is in use is not given up for another: when more requests repeat than there is room for, those that are
    known stay known, and the others are decoded. One that was not found for several times as long as it used to take,
    counted in requests, is given up.
    """

    def __init__(self, most: int = _MOST_BYTES) -> None:
        self._most = most
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self.size = 0
        self._now = 0
        self._by_length: dict[int, dict[_Probe, dict[Any, list[Template]]]] = {}
        self._order: OrderedDict[Template, int] = OrderedDict()  # with their lengths; the one found last is last
        self._seen: dict[int, int] = {}
        self._streams: dict[int, Template] = {}  # those found last

    def __len__(self) -> int:
        return len(self._order)

    def all(self) -> list[Template]:
        """Return those that are known, the one found last at the end."""
        return list(self._order)

    def find(self, payload: bytes) -> Fit | None:
        """Return a request as one that fits a template."""
        self._now += 1
        for probe, known in self._by_length.get(len(payload), {}).items():
            for template in known.get(_probed(payload, probe), ()):
                if (fit := template.fit(payload)) is not None:
                    template.gap = max(self._now - template.found, template.gap // 2)
                    template.found = self._now
                    self._order.move_to_end(template)
                    self._streams[template.stream] = template
                    return fit
        return None

    def due(self, shape: int, stream: int, cost: int) -> int | None:
        """Tell whether a request that fits no template becomes one: it is likely to come again, and there is room.

        It is where it came before, ``shape`` being a hash of what of it would be the same; and where others came that
        begin with the same series, ``stream``, and were found again lately, as those of a client of which one series is
        new. Returns how many requests ago that was, otherwise None.
        """
        before = self._seen.pop(shape, None)
        if before is None and (former := self._streams.get(stream)) is not None and self._is_in_use(former):
            before = former.found
        if before is not None and self._make_room(cost):
            return self._now - before
        self._seen[shape] = self._now
        if len(self._seen) > _MOST_SEEN:
            del self._seen[next(iter(self._seen))]
        return None

    def add(self, template: Template, length: int, gap: int) -> None:
        """Remember the template of a request of a length, which came so many requests after the one before."""
        if not self._make_room(template.cost):
            return
        probes = self._by_length.setdefault(length, {})
        if template.probe not in probes and len(probes) >= _MOST_ALIKE:
            return
        alike = probes.setdefault(template.probe, {}).setdefault(_probed(template.expected, template.probe), [])
        if len(alike) >= _MOST_ALIKE:
            return
        alike.append(template)
        template.found, template.gap = self._now, gap
        self._order[template] = length
        self.size += template.cost

    def _make_room(self, cost: int) -> bool:
        """Give up what is not in use any more until there is room. Returns whether there is."""
        if self.size + cost <= self._most:
            return True
        for template in list(itertools.islice(self._order, _LOOKED_AT)):
            if not self._is_in_use(template):
                self._give_up(template)
                if self.size + cost <= self._most:
                    return True
        return False

    def _is_in_use(self, template: Template) -> bool:
        return self._now - template.found <= _PATIENCE * template.gap + _LOOKED_AT

    def _give_up(self, template: Template) -> None:
        length = self._order.pop(template)
        self.size -= template.cost
        if self._streams.get(template.stream) is template:
            del self._streams[template.stream]
        probes = self._by_length[length]
        by_key = probes[template.probe]
        key = _probed(template.expected, template.probe)
        by_key[key].remove(template)
        if not by_key[key]:
            del by_key[key]
        if not by_key:
            del probes[template.probe]
        if not probes:
            del self._by_length[length]


def _probed(payload: bytes | bytearray, probe: _Probe) -> tuple[bytes, ...]:
    return tuple([bytes(payload[begin:end]) for begin, end in probe])
