"""Which series the store has, by their labels.

The dimensions are content-addressed: what a key stands for never changes. So what is asked of the database each time is
which keys there are, by an index; what they stand for is remembered, up to a bound. A series is found as soon as it is
stored, nothing has to be invalidated, and what is remembered needs no more memory than is in use.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from psycopg import sql

from gateway.query import names
from gateway.query.errors import LimitExceededError
from gateway.query.matching import Condition, all_match
from gateway.query.names import Part, Translation
from gateway.query.reading.arrays import as_array, ids, row_of, statement
from gateway.query.reading.connection import Reading
from gateway.query.series import METRIC_NAME

DELTA = 1
"""The temporality of what was measured since the last point."""

_LISTED = 4
"""How many times as many series may be looked at as may be read: which of them match is known only then."""

Ids = npt.NDArray[np.int64]
_Labels = Mapping[str, str]


class Metric(NamedTuple):
    """A metric, as the table of that name has it."""

    id: int
    name: str
    kind: str
    unit: str
    temporality: int
    monotonic: bool
    description: str

    @property
    def is_delta(self) -> bool:
        """Whether its points tell what came since the last: Prometheus knows only what came in all."""
        return self.temporality == DELTA and self.kind != "gauge"

    @property
    def unit_name(self) -> str:
        """Its unit as Prometheus writes it, such as ``seconds``."""
        return names.unit_name(self.unit)

    @property
    def shown_type(self) -> str:
        """What Prometheus calls its type."""
        match self.kind:
            case "sum":
                return "counter" if self.monotonic else "gauge"
            case "exponential_histogram":
                return "histogram"
            case kind:
                return kind


class Family(NamedTuple):
    """What has one name in Prometheus: a metric, or a part of one."""

    metric: Metric
    part: Part


class LabelSet(NamedTuple):
    """Labels of a series, without what it is called and ``le`` or ``quantile``; ``key`` is the same for equal ones."""

    labels: dict[str, str]
    key: frozenset[tuple[str, str]]


class Found(NamedTuple):
    """Series of one family that match."""

    name: str
    family: Family
    ids: Ids
    labels: list[LabelSet]


class Resource(NamedTuple):
    """A resource: its attributes as the store has them, and the labels it gives its series."""

    attributes: Mapping[str, Any]
    labels: names.ResourceLabels


class _Known(NamedTuple):
    """The metrics there were. ``mark`` is another one where they are others."""

    mark: tuple[int, int, int]
    families: Mapping[str, Sequence[Family]]
    metrics: Mapping[int, Metric]


_LISTING = row_of(("is_mark", "u1"), ("id", ">i8"), ("metric", ">i8"), ("resource", ">i8"), ("scope", ">i8"))
_MARK = (
    "SELECT true, count(*), coalesce(bit_xor(id), 0), coalesce(sum(length(description)), 0)::bigint, 0::bigint"
    " FROM metric"
)
"""Finds one row, such as series are listed in."""
_SOME_IDS = row_of(("id", ">i8"))


class Catalogue:
    """The series of one store. ``remembered`` bounds of how many the labels are kept. For several threads."""

    def __init__(self, translation: Translation, remembered: int = 200_000) -> None:
        self.translation = translation
        self._remembered = remembered
        self._lock = threading.Lock()
        self._known = _Known((0, 0, 0), {}, {})
        self._resources: dict[int, Resource] = {}
        self._scopes: dict[int, names.Labels] = {}
        self._series: dict[int, LabelSet] = {}
        self._attributes: dict[bytes, Mapping[str, Any]] = {}

    def families(self, reading: Reading) -> Mapping[str, Sequence[Family]]:
        """Return what there is, by its name in Prometheus."""
        return self._metrics_now(reading).families

    def _metrics_now(self, reading: Reading) -> _Known:
        (row,) = reading.rows(statement(_MARK), _LISTING)
        known, seen = self._known, _mark(row)
        if seen != known.mark:
            metrics = self._read_metrics(reading)
            families: defaultdict[str, list[Family]] = defaultdict(list)
            for metric in metrics:
                its = names.metric_name(
                    self.translation.strategy, metric.name, metric.unit, metric.kind, monotonic=metric.monotonic
                )
                if its is not None:
                    for part, suffix in names.parts(metric.kind):
                        families[its + suffix].append(Family(metric, part))
            known = self._known = _Known(seen, dict(families), {metric.id: metric for metric in metrics})
        return known

    def base_name(self, metric: Metric) -> str | None:
        """Return what a metric is called, without what its parts end with."""
        return names.metric_name(
            self.translation.strategy, metric.name, metric.unit, metric.kind, monotonic=metric.monotonic
        )

    def metrics(self, reading: Reading) -> Iterable[Metric]:
        """Return all metrics."""
        return self._metrics_now(reading).metrics.values()

    def find(
        self, reading: Reading, conditions: Sequence[Condition], asked_for: list[sql.SQL] | None = None
    ) -> list[Found]:
        """Return the series that match, by family; those without any are left out.

        ``le`` and ``quantile`` are no labels of what the store calls a series: of what has them the condition is for
        the caller. ``target_info`` is not among them: see `resources`. ``asked_for`` gets the statements by which they
        were found, which the same conditions have again.
        """
        of_name = [condition for condition in conditions if condition.name == METRIC_NAME]
        others = [condition for condition in conditions if condition.name != METRIC_NAME]
        # The series of the metrics there were, and whether there still are these, are asked for at once.
        known = self._known
        wanted = _named(known.families, of_name)
        asked_for = [] if asked_for is None else asked_for
        seen, listed = self._listed(reading, known, wanted, others, asked_for)
        if seen != known.mark:
            known = self._metrics_now(reading)
            wanted = _named(known.families, of_name)
            asked_for.clear()
            _, listed = self._listed(reading, known, wanted, others, asked_for)
        if not len(listed):
            return []
        labels = self.labels(reading, listed)
        by_metric = _grouped(listed["metric"].astype(np.int64))
        keys = listed["id"].astype(np.int64)
        found = []
        for name, family in wanted:
            if (which := by_metric.get(family.metric.id)) is None:
                continue
            asked = [condition for condition in others if condition.name != _OWN_LABEL.get(family.part)]
            # The same labels are asked for every part: remembered by the conditions themselves.
            its = [at for at in which.tolist() if all_match(asked, labels[at].labels)] if asked else which.tolist()
            if its:
                found.append(Found(name, family, keys[its], [labels[at] for at in its]))
        return found

    def labels(self, reading: Reading, listed: npt.NDArray[Any]) -> list[LabelSet]:
        """Return the labels of series, in their order."""
        keys = listed["id"].astype(np.int64).tolist()
        known = self._series
        missing = [at for at, key in enumerate(keys) if key not in known]
        if missing:
            added = self._read_labels(reading, listed[missing])
            known = {**{key: known[key] for key in keys if key in known}, **added}
            with self._lock:
                if len(self._series) + len(added) > self._remembered:
                    self._series, self._attributes = {}, {}
                self._series.update(added)
        return [known[key] for key in keys]

    def resources(self, reading: Reading) -> dict[int, Resource]:
        """Return all resources, by key."""
        keys = reading.rows(_all_resources(reading), _SOME_IDS)["id"].astype(np.int64)
        if len(keys) > reading.usage.limits.series:
            reading.usage.add_series(len(keys))  # too many
        return self._resources_of(reading, keys)

    # -- reading -------------------------------------------------------------------------------------------------------

    def _read_metrics(self, reading: Reading) -> list[Metric]:
        # Of metrics that share a name and a type, the order decides which description is shown.
        query = sql.SQL(
            "SELECT id, name, type, unit, temporality, is_monotonic, description FROM metric ORDER BY name, id"
        )
        metrics = []
        for key, name, kind, unit, temporality, monotonic, description in reading.texts(sql.Composed([query])):
            assert key
            assert name is not None
            assert kind
            assert unit is not None
            assert temporality
            assert monotonic
            metrics.append(
                Metric(
                    _int(key),
                    name.decode(),
                    kind.decode(),
                    unit.decode(),
                    _int(temporality),
                    monotonic != b"\0",
                    (description or b"").decode(),
                )
            )
        return metrics

    def _listed(
        self,
        reading: Reading,
        known: _Known,
        wanted: Sequence[tuple[str, Family]],
        conditions: Sequence[Condition],
        asked_for: list[sql.SQL],
    ) -> tuple[tuple[int, int, int], npt.NDArray[Any]]:
        """Return the mark of the metrics that there are, and the series of those wanted that may match, by id."""
        most = _LISTED * reading.usage.limits.series
        metrics = {family.metric.id for _, family in wanted}
        if not metrics:
            query = statement(_MARK)
        else:
            where = "true"
            if len(metrics) != len(known.metrics):
                where += f" AND metric_id = ANY({as_array(metrics)}::bigint[])"
            if (resources := self._matching_resources(reading, conditions)) is not None:
                where += f" AND resource_id = ANY({as_array(resources.tolist())}::bigint[])"
                asked_for.append(_all_resources(reading))
            query = statement(
                "{mark} UNION ALL"
                " (SELECT false, id, metric_id, resource_id, scope_id FROM series WHERE {where} LIMIT {most})",
                mark=_MARK,
                where=where,
                most=most + 1,
            )
        asked_for.append(query)
        rows = reading.rows(query, _LISTING)
        is_mark = rows["is_mark"] != 0
        (row,) = rows[is_mark]
        listed = rows[~is_mark]
        listed = listed[np.argsort(listed["id"])]
        if len(listed) > most:
            raise LimitExceededError(
                f"the query looks at more than {most:,} series, {_LISTED} times query.max_series: name a metric, or a "
                "job or instance",
                "max_series",
                most,
            )
        return _mark(row), listed

    def _matching_resources(self, reading: Reading, conditions: Sequence[Condition]) -> Ids | None:
        """Return the resources whose series may match, where that is told by them alone; None: any."""
        asked = [each for each in conditions if each.name in (names.JOB, names.INSTANCE) and not each.takes_nothing]
        if not asked:
            return None
        wanted = [
            key
            for key, resource in self.resources(reading).items()
            if all(each(resource.labels.own[each.name]) for each in asked if each.name in resource.labels.own)
        ]
        return np.array(wanted, np.int64)

    def _read_labels(self, reading: Reading, listed: npt.NDArray[Any]) -> dict[int, LabelSet]:
        resources = self._resources_of(reading, np.unique(listed["resource"]))
        scopes = self._scopes_of(reading, np.unique(listed["scope"]))
        keys = listed["id"].astype(np.int64)
        belongs = dict(
            zip(keys.tolist(), zip(listed["resource"].tolist(), listed["scope"].tolist(), strict=True), strict=True)
        )
        query = sql.SQL("SELECT id, attributes::text FROM series WHERE id = ANY({}::bigint[])").format(ids(keys))
        added: dict[int, LabelSet] = {}
        for raw_key, attributes in reading.texts(query):
            assert raw_key
            assert attributes
            key = _int(raw_key)
            resource, scope = belongs[key]
            labels = names.series_labels(
                self.translation,
                self._attributes_of(attributes),
                resources[resource].labels if resource in resources else _NO_LABELS,
                scopes.get(scope, {}),
            )
            added[key] = LabelSet(labels, frozenset(labels.items()))
        for key in belongs.keys() - added.keys():  # removed at this moment: it has no points either
            added[key] = LabelSet({}, frozenset())
        return added

    def _attributes_of(self, text: bytes) -> Mapping[str, Any]:
        """Decode attributes; the same ones are of many resources, and share their strings."""
        if (known := self._attributes.get(text)) is None:
            known = self._attributes[text] = msgspec.json.decode(text)
        return known

    def _resources_of(self, reading: Reading, keys: npt.NDArray[Any]) -> dict[int, Resource]:
        known = self._resources
        wanted = keys.tolist()
        if missing := [key for key in wanted if key not in known]:
            query = sql.SQL(
                "SELECT id, coalesce(attributes, '{{}}')::text FROM resource WHERE id = ANY({}::bigint[])"
            ).format(ids(np.array(missing, np.int64)))
            added = {}
            for raw_key, text in reading.texts(query):
                assert raw_key
                assert text
                attributes: Mapping[str, Any] = msgspec.json.decode(text)
                added[_int(raw_key)] = Resource(attributes, names.resource_labels(self.translation, attributes))
            known = {**known, **added}
            with self._lock:
                self._resources = {**self._resources, **added} if len(known) <= self._remembered else added
        return {key: known[key] for key in wanted if key in known}

    def _scopes_of(self, reading: Reading, keys: npt.NDArray[Any]) -> dict[int, names.Labels]:
        if not self.translation.promote_scope_metadata:
            return {}
        known = self._scopes
        if missing := [key for key in keys.tolist() if key not in known]:
            query = sql.SQL(
                "SELECT id, name, version, schema_url, attributes::text FROM scope WHERE id = ANY({}::bigint[])"
            ).format(ids(np.array(missing, np.int64)))
            added = {}
            for raw_key, name, version, schema_url, text in reading.texts(query):
                assert raw_key
                assert version is not None
                assert schema_url is not None
                assert text
                added[_int(raw_key)] = names.scope_labels(
                    self.translation,
                    None if name is None else name.decode(),
                    version.decode(),
                    schema_url.decode(),
                    msgspec.json.decode(text),
                )
            known = {**known, **added}
            with self._lock:
                self._scopes = {**self._scopes, **added} if len(known) <= self._remembered else added
        return {key: known[key] for key in keys.tolist() if key in known}


def _all_resources(reading: Reading) -> sql.SQL:
    return statement("SELECT id FROM resource LIMIT {most}", most=reading.usage.limits.series + 1)


def _mark(row: np.void) -> tuple[int, int, int]:
    return int(row["id"]), int(row["metric"]), int(row["resource"])


_OWN_LABEL = {Part.BUCKET: "le", Part.QUANTILE: "quantile"}
_NO_LABELS = names.ResourceLabels({}, {})


def own_label(part: Part) -> str | None:
    """Return the label that tells series of a part from each other, and that is in their points alone."""
    return _OWN_LABEL.get(part)


def _named(families: Mapping[str, Sequence[Family]], of_name: Sequence[Condition]) -> list[tuple[str, Family]]:
    """Return the families whose name matches."""
    for condition in of_name:
        if (name := condition.equal_to) is not None:
            families = {name: families[name]} if name in families else {}
    return [
        (name, family)
        for name, several in families.items()
        if all(condition(name) for condition in of_name)
        for family in several
    ]


def _grouped(values: Ids) -> dict[int, Ids]:
    """Return where each value stands."""
    if not len(values):
        return {}
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    return dict(zip(ordered[starts].tolist(), np.split(order, starts[1:]), strict=True))


def _int(field: bytes) -> int:
    return int.from_bytes(field, "big", signed=True)
