"""Labels of a store with more series than a query may read: which there are at all, whatever the time.

They are asked for when somebody opens an editor, so an answer that has too much is better than none. What it is made of
is counted by PostgreSQL, and by the resources.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from psycopg import sql

from gateway.query import names
from gateway.query.names import label_name, text_of
from gateway.query.numbers_text import shortest
from gateway.query.reading.arrays import row_of
from gateway.query.reading.catalogue import Catalogue
from gateway.query.reading.connection import Reading
from gateway.query.reading.window import Window
from gateway.query.series import METRIC_NAME

_COUNT = row_of(("count", ">i8"))
_NUMBER = row_of(("value", ">f8"))
_OF_POINTS = {"le": ("histogram_sample", "explicit_bounds"), "quantile": ("summary_sample", "quantiles")}


def is_large(reading: Reading) -> bool:
    """Tell whether there are more series than a query may read."""
    query = sql.SQL("SELECT count(*) FROM (SELECT FROM series LIMIT {}) AS found").format(
        reading.usage.limits.series + 1
    )
    return int(reading.rows(query, _COUNT)["count"][0]) > reading.usage.limits.series


def label_names(reading: Reading, catalogue: Catalogue) -> set[str]:
    """Return the names of all labels."""
    found = {METRIC_NAME}
    for key in _keys(reading):
        if (name := label_name(catalogue.translation.strategy, key)) is not None:
            found.add(name)
    for labels in _of_resources(reading, catalogue):
        found.update(labels)
    kinds = {metric.kind for metric in catalogue.metrics(reading)}
    return found | {own for own, kind in (("le", "histogram"), ("quantile", "summary")) if kind in kinds}


def label_values(reading: Reading, catalogue: Catalogue, name: str, window: Window) -> set[str]:
    """Return all values of a label; of ``le`` and ``quantile`` those of a time range."""
    if name in _OF_POINTS:
        return _of_points(reading, name, window)
    found = {labels[name] for labels in _of_resources(reading, catalogue) if name in labels}
    for key in _keys(reading):
        if label_name(catalogue.translation.strategy, key) == name:
            query = sql.SQL("SELECT DISTINCT (attributes -> {0})::text FROM series WHERE attributes ? {0}").format(
                sql.Literal(key)
            )
            found.update(text_of(msgspec.json.decode(text)) for (text,) in reading.texts(query) if text is not None)
    return found - {""}


def _keys(reading: Reading) -> list[str]:
    """Return the attributes that series have."""
    query = sql.SQL(
        "SELECT DISTINCT key FROM series CROSS JOIN LATERAL jsonb_object_keys(attributes) AS its (key) LIMIT {}"
    ).format(reading.usage.limits.series)
    return [key.decode() for (key,) in reading.texts(query) if key is not None]


def _of_resources(reading: Reading, catalogue: Catalogue) -> Iterator[names.Labels]:
    for resource in catalogue.resources(reading).values():
        yield resource.labels.promoted
        yield resource.labels.own
        yield names.target_info(catalogue.translation, resource.attributes) or {}


def _of_points(reading: Reading, name: str, window: Window) -> set[str]:
    table, column = _OF_POINTS[name]
    query = sql.SQL("SELECT DISTINCT unnest({}) FROM {} WHERE {}").format(
        sql.Identifier(column), sql.Identifier(table), window.on("time")
    )
    found = {shortest(value) for value in reading.rows(query, _NUMBER)["value"].tolist()}
    return found | {"+Inf"} if found and name == "le" else found
