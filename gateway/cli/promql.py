"""PromQL for ``obs-hub metrics``: the lines of a query, over a time range."""

from __future__ import annotations

import contextlib
import math
import re
from datetime import datetime, timedelta
from pathlib import Path

import click

from gateway.cli.options import load_config
from gateway.extensions.api.config import ApiConfig
from gateway.query.config import QuerySettings
from gateway.query.errors import BadQueryError, QueryError
from gateway.query.metrics.lines import Line, Window
from gateway.query.names import metric_name, parts
from gateway.query.promql.context import Limits
from gateway.query.promql.engine import Engine
from gateway.query.promql.results import Matrix, Result
from gateway.query.service import QueryService
from gateway.terminal import safe


def lines_of(
    query: str, end: datetime, step: int, intervals: int, dsn: str, config: Path | None
) -> tuple[list[Line], Window]:
    """Return the lines of a query, and their steps of ``step`` milliseconds, the last of which is the end.

    Warnings go to the terminal. A query without a result ends the command.
    """
    last = round(end.timestamp() * 1000)
    first = last - (intervals - 1) * step
    settings = _settings(config)
    service = QueryService(settings, lambda: dsn)
    usage = service.usage()
    try:
        with service.querier(usage) as querier:
            limits = Limits(samples=usage.limits.samples, series=usage.limits.series, seconds=usage.seconds_left)
            lookback = round(settings.lookback_delta.total_seconds() * 1000)
            result = Engine(querier, lookback=lookback, limits=limits).range(query, first, last, step)
    except BadQueryError as error:
        raise click.UsageError("\n".join(map(safe, [f"--promql: {error}", *_called(service, query)]))) from error
    except QueryError as error:
        raise click.ClickException(safe(str(error))) from error
    finally:
        service.close()
    _tell(result)
    length = timedelta(milliseconds=step)
    begins = datetime.fromtimestamp(first / 1000, end.tzinfo)
    return _lines(result, first, step, intervals), Window(begins, begins + intervals * length, intervals)


_DOTTED = re.compile(r"""(["'`])(?:\\.|(?!\1).)*\1|([a-zA-Z_]\w*(?:\.\w+)+)""", re.DOTALL)
"""Texts, and names with dots outside of them."""
_PLAIN = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
"""A name that needs no quotes."""


def _called(service: QueryService, query: str) -> list[str]:
    """Say what metrics are called in PromQL that a query has by OpenTelemetry's names, which PromQL cannot parse."""
    dotted = {found[2]: set[str]() for found in _DOTTED.finditer(query) if found[2]}
    if not dotted:
        return []
    translation = service.settings.translation
    with contextlib.suppress(QueryError), service.querier(service.usage()) as querier:
        for name, metric in querier.metrics():
            if metric.name in dotted:
                dotted[metric.name].update(name + suffix for _, suffix in parts(metric.kind))
    hints = []
    for name, its in dotted.items():
        if not its and (guess := metric_name(translation.strategy, name, "", "gauge", monotonic=False)):
            its.add(guess)
        shown = ", ".join(each if _PLAIN.fullmatch(each) else f'{{"{each}"}}' for each in sorted(its))
        hints.append(f"{name} is {shown} in PromQL")
    return hints


def _settings(config_path: Path | None) -> QuerySettings:
    """Return how the front reads the store, where the configuration has one: names are to be the same."""
    config = load_config(config_path, lenient=True)
    fronts = (config.extensions[name] for name in config.service.extensions)
    return next((front.query for front in fronts if isinstance(front, ApiConfig)), QuerySettings())


def _tell(result: Result) -> None:
    for text in (*result.annotations.warnings, *result.annotations.infos):
        click.echo(safe(text), err=True)
    if isinstance(result.value, Matrix) and any(series.histograms for series in result.value.series):
        click.echo("native histograms are not drawn; histogram_quantile() and the like make numbers of them", err=True)


def _lines(result: Result, first: int, step: int, intervals: int) -> list[Line]:
    assert isinstance(result.value, Matrix), "what a range query comes to"
    lines = []
    for series in result.value.series:
        values: list[float | None] = [None] * intervals
        for at, value in zip(series.times.tolist(), series.values.tolist(), strict=True):
            if math.isfinite(value):
                values[(at - first) // step] = value
        if series.values.size:
            lines.append(Line(series.labels, values))
    return lines
