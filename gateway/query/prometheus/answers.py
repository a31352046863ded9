"""Each endpoint of Prometheus's API: from its parameters to its answer."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gateway.query.errors import BadQueryError
from gateway.query.limits import Usage
from gateway.query.names import unescaped
from gateway.query.prometheus import encoding, exemplars, syntax
from gateway.query.prometheus.parameters import MAX_TIME, MIN_TIME, Parameters, invalid
from gateway.query.promql.context import Limits
from gateway.query.promql.engine import Engine
from gateway.query.promql.parser import parse, parse_selector
from gateway.query.promql.results import Matrix, Result, Vector
from gateway.query.series import Matcher, Querier
from gateway.query.service import QueryService

Answer = Iterable[bytes]
Work = Callable[[Parameters, Usage], Answer]

_TRUNCATED = "results truncated due to limit"
_VERSION = "3.5.0"
"""The version of Prometheus whose API this is: clients go by it."""


class Answers:
    """The endpoints under ``/api/v1``, each by its path. Whatever is wrong with a request raises `QueryError`."""

    def __init__(self, service: QueryService, now: Callable[[], float] = time.time) -> None:
        self._service = service
        self._now = now
        self._paths: dict[str, Work] = {
            "query": self._query,
            "query_range": self._query_range,
            "query_exemplars": self._query_exemplars,
            "series": self._series,
            "labels": self._labels,
            "metadata": self._metadata,
            "format_query": lambda parameters, _: [encoding.answer(syntax.formatted(_parsed(parameters)))],
            "parse_query": lambda parameters, _: [encoding.answer(syntax.tree(_parsed(parameters)))],
            "rules": lambda *_: [encoding.answer({"groups": []})],
            "alerts": lambda *_: [encoding.answer({"alerts": []})],
            "status/buildinfo": lambda *_: [encoding.answer(_BUILD)],
        }

    def find(self, path: str) -> Work | None:
        """Return what answers a path; None where there is nothing."""
        if path.startswith("label/") and path.endswith("/values"):
            name = unescaped(path.removeprefix("label/").removesuffix("/values"))
            return lambda parameters, usage: self._label_values(name, parameters, usage)
        return self._paths.get(path)

    # -- queries -------------------------------------------------------------------------------------------------------

    def _query(self, parameters: Parameters, usage: Usage) -> Answer:
        limit = parameters.limit()
        at = parameters.time("time", round(self._now() * 1000))
        lookback = _lookback(parameters)
        query = _checked(parameters)
        with self._service.querier(usage) as querier:
            engine = self._engine(querier, usage)
            result = engine.instant(query, at, lookback=lookback, canceled=lambda: usage.canceled)
        return _pieces(result, limit)

    def _query_range(self, parameters: Parameters, usage: Usage) -> Answer:
        limit = parameters.limit()
        start, end, step = parameters.range()
        lookback = _lookback(parameters)
        query = _checked(parameters)
        with self._service.querier(usage) as querier:
            engine = self._engine(querier, usage)
            result = engine.range(query, start, end, step, lookback=lookback, canceled=lambda: usage.canceled)
        return _pieces(result, limit)

    def _engine(self, querier: Querier, usage: Usage) -> Engine:
        lookback = round(self._service.settings.lookback_delta.total_seconds() * 1000)
        limits = Limits(samples=usage.limits.samples, series=usage.limits.series, seconds=usage.seconds_left)
        return Engine(querier, lookback=lookback, limits=limits, needs=lambda size: usage.needs(size=size))

    def _query_exemplars(self, parameters: Parameters, usage: Usage) -> Answer:
        start, end = parameters.time("start", MIN_TIME), parameters.time("end", MAX_TIME)
        if end < start:
            raise BadQueryError("end timestamp must not be before start timestamp")
        selectors = syntax.selectors(_parsed(parameters))
        with self._service.reading(usage) as reading:
            querier = self._service.querier_of(reading)
            return [encoding.answer(exemplars.read(reading, querier, selectors, start, end))]

    # -- what there is -------------------------------------------------------------------------------------------------

    def _series(self, parameters: Parameters, usage: Usage) -> Answer:
        if not parameters.all("match[]"):
            raise BadQueryError("no match[] parameter provided")
        limit = parameters.limit()
        start, end = _window(parameters)
        matchers = _selectors(parameters)
        with self._service.querier(usage) as querier:
            found = querier.series(matchers, start, end, limit + 1 if limit else 0)
        return _listed([dict(sorted(each.items())) for each in found], limit)

    def _labels(self, parameters: Parameters, usage: Usage) -> Answer:
        limit = parameters.limit()
        start, end = _window(parameters)
        matchers = _selectors(parameters)
        with self._service.querier(usage) as querier:
            found = querier.label_names(matchers, start, end, limit + 1 if limit else 0)
        return _listed(found, limit)

    def _label_values(self, name: str, parameters: Parameters, usage: Usage) -> Answer:
        if not name:
            raise BadQueryError(f'invalid label name: "{name}"')
        limit = parameters.limit()
        start, end = _window(parameters)
        matchers = _selectors(parameters)
        with self._service.querier(usage) as querier:
            found = querier.label_values(name, matchers, start, end, limit + 1 if limit else 0)
        return _listed(found, limit)

    def _metadata(self, parameters: Parameters, usage: Usage) -> Answer:
        limits = [_number(parameters, name) for name in ("limit", "limit_per_metric")]
        wanted = parameters.text("metric")
        found: defaultdict[str, list[Mapping[str, str]]] = defaultdict(list)
        with self._service.querier(usage) as querier:
            for name, metric in querier.metrics():
                described = {"type": metric.shown_type, "unit": metric.unit_name, "help": metric.description}
                if wanted in ("", name) and described not in found[name]:
                    found[name].append(described)
        each = limits[1] if limits[1] is not None and limits[1] > 0 else None
        some = list(found.items()) if limits[0] is None or limits[0] < 0 else list(found.items())[: limits[0]]
        return [encoding.answer({name: several[:each] for name, several in some if several})]


_BUILD = {"version": _VERSION, "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": ""}


def _parsed(parameters: Parameters) -> Any:
    try:
        return parse(parameters.text("query"))
    except BadQueryError as error:
        raise invalid("query", str(error)) from error


def _checked(parameters: Parameters) -> str:
    """Return the query, once it is known that it can be parsed."""
    _parsed(parameters)
    return parameters.text("query")


def _lookback(parameters: Parameters) -> int | None:
    """Return for how many milliseconds samples count in this query; None where it does not say."""
    milliseconds = round(parameters.duration("lookback_delta") or 0)
    return milliseconds if milliseconds > 0 else None


def _selectors(parameters: Parameters) -> list[Sequence[Matcher]]:
    found: list[Sequence[Matcher]] = []
    for text in parameters.all("match[]"):
        try:
            found.append(parse_selector(text))
        except BadQueryError as error:
            raise invalid("match[]", str(error)) from error
    return found


def _window(parameters: Parameters) -> tuple[int, int]:
    """Return the time range, which both ends belong to, as queriers have it: (start, end]."""
    return parameters.time("start", MIN_TIME) - 1, parameters.time("end", MAX_TIME)


def _number(parameters: Parameters, name: str) -> int | None:
    text = parameters.text(name)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise BadQueryError(f"{name} must be a number") from None


def _listed(found: Sequence[Any], limit: int) -> Answer:
    if limit and len(found) > limit:
        return [encoding.answer(found[:limit], [_TRUNCATED])]
    return [encoding.answer(found)]


def _pieces(result: Result, limit: int) -> Answer:
    match result.value:
        case Vector(at, samples) if 0 < limit < len(samples):
            return encoding.pieces(Result(Vector(at, samples[:limit]), result.annotations), [_TRUNCATED])
        case Matrix(series) if 0 < limit < len(series):
            return encoding.pieces(Result(Matrix(series[:limit]), result.annotations), [_TRUNCATED])
        case _:
            return encoding.pieces(result)
