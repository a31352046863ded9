"""The store as query languages ask for it: series by label matchers, with their samples.

Series of OTLP that are one in Prometheus, because what tells them apart is no label there, become one here: their
samples are put together, as Prometheus would have taken them in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from psycopg import sql

from gateway.query import names
from gateway.query.matching import Condition, all_match, conditions
from gateway.query.names import TARGET_INFO, Part
from gateway.query.numbers_text import shortest
from gateway.query.reading import distributions, everything, numbers
from gateway.query.reading.arrays import ids, row_of
from gateway.query.reading.catalogue import Catalogue, Family, Found, LabelSet, Metric, own_label
from gateway.query.reading.chunks import Chunk, Floats, Joiner, SharedTimes, Times, summed_up
from gateway.query.reading.connection import Reading
from gateway.query.reading.frames import Looks, Memory, Selection, looks
from gateway.query.reading.numbers import Ids
from gateway.query.reading.window import Window
from gateway.query.series import METRIC_NAME, Hints, Labels, Matcher, NativeHistograms, Series

_ALL_TIME = 2**53
"""Milliseconds from which on a time range is all there is."""
_FACTS = ("sample", "histogram_sample", "exp_histogram_sample", "summary_sample")
_TABLES = {
    "histogram": "histogram_point",
    "exponential_histogram": "exp_histogram_point",
    "summary": "summary_point",
}

_Key = tuple[str, frozenset[tuple[str, str]], str]
"""What is one series in Prometheus: its name, its labels, and ``le`` or ``quantile``."""


class _Gathered(NamedTuple):
    """What becomes one series."""

    labels: dict[str, str]
    chunks: list[Chunk]


class StoreQuerier:
    """Implements `gateway.query.series.Querier`, for one query."""

    def __init__(self, reading: Reading, catalogue: Catalogue, memory: Memory) -> None:
        self._reading = reading
        self._catalogue = catalogue
        self._memory = memory

    def select(self, matchers: Sequence[Matcher], start: int, end: int, hints: Hints) -> Sequence[Series]:
        """Return the series that match, each once, with their samples in (start, end], milliseconds."""
        asked = conditions(matchers)
        window = Window(start, end)
        only = looks(window, hints)
        self._ask_ahead(matchers, window, only)
        asked_for: list[sql.SQL] = []
        found = self._catalogue.find(self._reading, asked, asked_for)
        self._reading.usage.add_series(sum(len(each.ids) for each in found))
        share = SharedTimes()
        gathered: dict[_Key, _Gathered] = {}
        natives: dict[_Key, list[tuple[dict[str, str], NativeHistograms]]] = defaultdict(list)
        for its, parts in _by_kind(found).items():
            match its:
                case "histogram" | "summary":
                    self._distributions(its, parts, asked, window, share, gathered)
                case "exponential_histogram":
                    self._exponential(parts, window, natives)
                case _:
                    series = self._numbers(parts, window, only, share, gathered)
                    self._memory.note_selection(matchers, Selection(asked_for, series))
        for labels, times in self._targets(asked, window, share):
            key = TARGET_INFO, frozenset(labels.items()), ""
            chunk = Chunk(times, np.ones(len(times)))
            gathered.setdefault(key, _Gathered({METRIC_NAME: TARGET_INFO, **labels}, [])).chunks.append(chunk)
        joiner = Joiner(share)
        result = []
        for key, one in gathered.items():
            joined = joiner.join(one.chunks)
            histograms = natives.pop(key, None)
            result.append(Series(one.labels, joined.times, joined.values, _merged(histograms) if histograms else None))
        none = share(np.empty(0, np.int64))
        result += [Series(several[0][0], none, np.empty(0), _merged(several)) for several in natives.values()]
        return result

    def _ask_ahead(self, matchers: Sequence[Matcher], window: Window, only: Looks | None) -> None:
        """Ask at once for all that the same selector needed the last time; what is another now is asked for anew."""
        if (last := self._memory.selection(matchers)) is not None:
            self._reading.ahead([*last.statements, *numbers.statements(last.series, window, self._memory, only)])

    # -- samples -------------------------------------------------------------------------------------------------------

    def _numbers(
        self,
        parts: Sequence[Found],
        window: Window,
        only: Looks | None,
        share: SharedTimes,
        gathered: dict[_Key, _Gathered],
    ) -> Ids:
        every = np.unique(np.concatenate([part.ids for part in parts]))
        if any(part.family.metric.is_delta for part in parts):
            only = None  # what is summed up counts wherever nobody looks, too
        samples = numbers.read(self._reading, every, window, share, self._memory, only)
        joiner = Joiner(share)
        for part in parts:
            is_delta = part.family.metric.is_delta
            for key, labels in zip(part.ids.tolist(), part.labels, strict=True):
                if (chunks := samples.get(key)) is None:
                    continue
                if is_delta:
                    chunks = [summed_up(joiner.join(chunks))]
                _gather(gathered, part.name, labels, None, "", chunks)
        return every

    def _distributions(
        self,
        kind: str,
        parts: Sequence[Found],
        asked: Sequence[Condition],
        window: Window,
        share: SharedTimes,
        gathered: dict[_Key, _Gathered],
    ) -> None:
        wanted: defaultdict[int, list[tuple[Found, LabelSet]]] = defaultdict(list)
        for part in parts:
            for key, labels in zip(part.ids.tolist(), part.labels, strict=True):
                wanted[key].append((part, labels))
        read = distributions.read_histograms if kind == "histogram" else distributions.read_summaries
        own = {"histogram": "le", "summary": "quantile"}[kind]
        takes = [condition for condition in asked if condition.name == own]
        for points in read(self._reading, np.array(sorted(wanted), np.int64), window, share):
            for part, labels in wanted[points.series]:
                metric = part.family.metric
                for text, values, which in _lines(part.family.part, points):
                    if text and not all(condition(text) for condition in takes):
                        continue
                    times = points.times if which is None else share(points.times[which])
                    chunk = Chunk(times, values if which is None else values[which])
                    _gather(gathered, part.name, labels, own if text else None, text, [chunk], is_delta=metric.is_delta)

    def _exponential(
        self,
        parts: Sequence[Found],
        window: Window,
        natives: dict[_Key, list[tuple[dict[str, str], NativeHistograms]]],
    ) -> None:
        every = np.unique(np.concatenate([part.ids for part in parts]))
        deltas = frozenset(key for part in parts if part.family.metric.is_delta for key in part.ids.tolist())
        samples = distributions.read_exponential(self._reading, every, window, deltas)
        for part in parts:
            for key, labels in zip(part.ids.tolist(), part.labels, strict=True):
                if (histograms := samples.get(key)) is not None:
                    its = {METRIC_NAME: part.name, **labels.labels}
                    natives[part.name, labels.key, ""].append((its, histograms))

    def _targets(
        self, asked: Sequence[Condition], window: Window, share: SharedTimes
    ) -> Iterator[tuple[dict[str, str], Times]]:
        """Yield the labels of ``target_info`` and when there was something of the resource."""
        if not all(condition(TARGET_INFO) for condition in asked if condition.name == METRIC_NAME):
            return
        others = [condition for condition in asked if condition.name != METRIC_NAME]
        wanted = {}
        for key, resource in self._catalogue.resources(self._reading).items():
            labels = names.target_info(self._catalogue.translation, resource.attributes)
            if labels is not None and all_match(others, labels):
                wanted[key] = labels
        if not wanted:
            return
        self._reading.usage.add_series(len(wanted))
        for key, times in self._times_of_resources(np.array(list(wanted), np.int64), window):
            yield wanted[key], share(times)

    def _times_of_resources(self, resources: Ids, window: Window) -> Iterator[tuple[int, Times]]:
        """Yield when there was a sample of each resource."""
        sets = self._reading.rows(
            sql.SQL(
                "SELECT DISTINCT e.resource_id, m.set_id FROM series e JOIN member m ON m.series_id = e.id"
                " WHERE e.resource_id = ANY({}::bigint[])"
            ).format(ids(resources)),
            _PAIR,
        )
        of_sets = numbers.times_of_sets(self._reading, np.unique(sets["other"].astype(np.int64)), window)
        found: defaultdict[int, list[Times]] = defaultdict(list)
        for key, set_id in zip(sets["key"].tolist(), sets["other"].tolist(), strict=True):
            if set_id in of_sets:
                found[key].append(of_sets[set_id])
        for table in _FACTS:
            rows = self._reading.rows(
                sql.SQL(
                    "SELECT DISTINCT e.resource_id, f.time FROM series e JOIN {} f ON f.series_id = e.id"
                    " WHERE e.resource_id = ANY({}::bigint[]) AND {}"
                ).format(sql.Identifier(table), ids(resources), window.on("f.time")),
                _PAIR,
            )
            self._reading.usage.add_samples(len(rows))
            times = numbers.from_postgres(rows["other"])
            keys = rows["key"].astype(np.int64)
            for key in np.unique(keys).tolist():
                found[key].append(times[keys == key])
        for key, several in found.items():
            yield key, np.unique(np.concatenate(several))

    # -- labels --------------------------------------------------------------------------------------------------------

    def series(self, matchers: Sequence[Sequence[Matcher]], start: int, end: int, limit: int = 0) -> list[Labels]:
        """Return the labels of the series that match any of the lists of matchers and have samples in the time."""
        found: dict[frozenset[tuple[str, str]], Labels] = {}
        for labels in self._labels(matchers, Window(start, end)):
            found[frozenset(labels.items())] = labels
            if limit and len(found) >= limit:
                break
        return sorted(found.values(), key=lambda labels: sorted(labels.items()))

    def label_names(self, matchers: Sequence[Sequence[Matcher]], start: int, end: int, limit: int = 0) -> list[str]:
        """Return the names of labels of the series that match, or of all there are, sorted."""
        if not matchers and everything.is_large(self._reading):
            return _bounded(everything.label_names(self._reading, self._catalogue), limit)
        found = {name for labels in self._labels(matchers or [[_ANY]], Window(start, end)) for name in labels}
        return _bounded(found, limit)

    def label_values(
        self, name: str, matchers: Sequence[Sequence[Matcher]], start: int, end: int, limit: int = 0
    ) -> list[str]:
        """Return the values of a label of the series that match, or of all there are, sorted."""
        if not matchers and name == METRIC_NAME:
            return _bounded({*self._catalogue.families(self._reading), *self._info_names()}, limit)
        if not matchers and everything.is_large(self._reading):
            window = Window(start, end)
            return _bounded(everything.label_values(self._reading, self._catalogue, name, window), limit)
        has_it = Matcher(name, "!=", "")
        asked = [[*each, has_it] for each in matchers or [[]]]
        found = {labels[name] for labels in self._labels(asked, Window(start, end)) if name in labels}
        return _bounded(found, limit)

    def metrics(self) -> Iterator[tuple[str, Metric]]:
        """Yield each metric with the name that its parts have in common."""
        for metric in self._catalogue.metrics(self._reading):
            if (name := self._catalogue.base_name(metric)) is not None:
                yield name, metric

    def found(self, matchers: Sequence[Matcher]) -> list[Found]:
        """Return the series that match, by family."""
        found = self._catalogue.find(self._reading, conditions(matchers))
        self._reading.usage.add_series(sum(len(each.ids) for each in found))
        return found

    def _info_names(self) -> list[str]:
        translation = self._catalogue.translation
        resources = self._catalogue.resources(self._reading).values()
        told = any(names.target_info(translation, resource.attributes) is not None for resource in resources)
        return [TARGET_INFO] if told else []

    def _labels(self, matchers: Iterable[Sequence[Matcher]], window: Window) -> Iterator[dict[str, str]]:
        for each in matchers:
            asked = conditions(each)
            found = self._catalogue.find(self._reading, asked)
            self._reading.usage.add_series(sum(len(one.ids) for one in found))
            for part in self._present(found, window):
                own = own_label(part.family.part)
                takes = [condition for condition in asked if condition.name == own]
                bounds = self._bounds(part, window) if own else {}
                for key, labels in zip(part.ids.tolist(), part.labels, strict=True):
                    its = {METRIC_NAME: part.name, **labels.labels}
                    if own is None:
                        yield its
                        continue
                    for text in _bound_texts(part.family, bounds.get(key, ())):
                        if all(condition(text) for condition in takes):
                            yield {**its, own: text}
            for told, _ in self._targets(asked, window, SharedTimes()):
                yield {METRIC_NAME: TARGET_INFO, **told}

    def _present(self, found: Sequence[Found], window: Window) -> Iterator[Found]:
        """Yield what has samples in a time range."""
        if window.end - window.start >= _ALL_TIME:
            yield from found
            return
        for kind, parts in _by_kind(found).items():
            every = np.unique(np.concatenate([part.ids for part in parts]))
            there = self._with_samples(kind, every, window)
            for part in parts:
                which = np.flatnonzero(np.isin(part.ids, there))
                if len(which):
                    labels = [part.labels[at] for at in which.tolist()]
                    yield Found(part.name, part.family, part.ids[which], labels)

    def _with_samples(self, kind: str, series: Ids, window: Window) -> Ids:
        table = _TABLES.get(kind, "sample")
        # One look for each series, by the index: how many samples there are does not matter.
        present = self._reading.rows(
            sql.SQL(
                "SELECT s.id FROM unnest({}::bigint[]) AS s (id) WHERE EXISTS"
                " (SELECT FROM {} f WHERE f.series_id = s.id AND {})"
            ).format(ids(series), sql.Identifier(table), window.on("f.time")),
            _KEY,
        )["key"].astype(np.int64)
        if table != "sample":
            return present
        in_frames = self._reading.rows(
            sql.SQL(
                "SELECT DISTINCT m.series_id FROM member m WHERE m.series_id = ANY({}::bigint[]) AND m.set_id IN"
                " (SELECT s.set_id FROM (SELECT DISTINCT set_id FROM member WHERE series_id = ANY({}::bigint[])) s"
                " WHERE EXISTS (SELECT FROM frame f WHERE f.set_id = s.set_id AND {}))"
            ).format(ids(series), ids(series), window.on("f.time")),
            _KEY,
        )["key"].astype(np.int64)
        return np.union1d(present, in_frames)

    def _bounds(self, part: Found, window: Window) -> Mapping[int, set[float]]:
        table = _TABLES[part.family.metric.kind]
        column = "explicit_bounds" if part.family.part is Part.BUCKET else "quantiles"
        return distributions.read_bounds(self._reading, table, column, part.ids, window)


_KEY = row_of(("key", ">i8"))
_PAIR = row_of(("key", ">i8"), ("other", ">i8"))
_ANY = Matcher(METRIC_NAME, "!=", "")


def _bounded(found: set[str], limit: int) -> list[str]:
    return sorted(found)[: limit or None]


def _by_kind(found: Sequence[Found]) -> dict[str, list[Found]]:
    by_kind: defaultdict[str, list[Found]] = defaultdict(list)
    for each in found:
        kind = each.family.metric.kind
        by_kind["number" if kind in ("gauge", "sum") else kind].append(each)
    return by_kind


def _gather(
    gathered: dict[_Key, _Gathered],
    name: str,
    labels: LabelSet,
    own: str | None,
    text: str,
    chunks: Sequence[Chunk],
    *,
    is_delta: bool = False,
) -> None:
    key = name, labels.key, text
    if (one := gathered.get(key)) is None:
        its = {METRIC_NAME: name, **labels.labels}
        if own is not None:
            its[own] = text
        one = gathered[key] = _Gathered(its, [])
    one.chunks.extend(summed_up(chunk) if is_delta else chunk for chunk in chunks)


def _lines(part: Part, points: distributions.Points) -> Iterator[tuple[str, Floats, npt.NDArray[np.bool_] | None]]:
    """Yield the samples of a part: the text of ``le`` or ``quantile``, the values, and which of the points have one."""
    match part:
        case Part.SUM:
            if points.has_sum.any():
                yield "", points.sums, None if points.has_sum.all() else points.has_sum
        case Part.COUNT:
            yield "", points.counts, None
        case _:
            for bound, values in zip(points.bounds.tolist(), points.values, strict=True):
                yield shortest(bound), values, None
            if part is Part.BUCKET:
                yield "+Inf", points.counts, None


def _bound_texts(family: Family, bounds: Iterable[float]) -> list[str]:
    texts = [shortest(bound) for bound in sorted(bounds)]
    return [*texts, "+Inf"] if family.part is Part.BUCKET and "+Inf" not in texts else texts


def _merged(several: Sequence[tuple[dict[str, str], NativeHistograms]]) -> NativeHistograms:
    """Return the histograms of series that are one in Prometheus."""
    _, first = several[0]
    for _, other in several[1:]:
        first = distributions.put_together(first, other)
    return first
