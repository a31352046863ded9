"""The walk over a request of logs or spans: resources, their scopes, the records of each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from exporters.timescale.copy import int8
from exporters.timescale.dimensions import Dimensions, decode_resource, decode_scope
from exporters.timescale.values import Fragments
from gateway.base.slices import LARGE, Steps
from gateway.otlp.bounds import RECORD, Budget

PACE = 32
"""Records between two pauses of an encoder."""


def decode_large(resources: Any, dimensions: Dimensions, scopes: str) -> Steps[None]:
    """Have the resources and scopes of a request that are large decoded in threads, before any is met.

    ``scopes`` is the name of the field that holds scopes, such as ``scope_logs``.
    """
    for of_resource in resources:
        if len(of_resource.resource) > LARGE:
            yield from _decode(decode_resource, of_resource.resource, dimensions)
        for number, of_scope in enumerate(getattr(of_resource, scopes)):
            if number % PACE == 0:
                yield None
            if len(of_scope.scope) > LARGE:
                yield from _decode(decode_scope, of_scope.scope, dimensions)


def _decode(decode: Callable[[bytes, Fragments], tuple[Any, ...]], raw: bytes, dimensions: Dimensions) -> Steps[None]:
    fragments = Fragments()
    dimensions.expect(raw, (yield functools.partial(decode, raw, fragments)))
    dimensions.fragments.counted += fragments.counted


def by_scope(
    resources: Any, dimensions: Dimensions, budget: Budget, scopes: str, records: str
) -> Iterator[tuple[bytes, Sequence[bytes], str]]:
    """Yield the serialized records of each scope, with the encoded fields ``resource_id`` and ``scope_id`` before them
    and the place where they stand in the request. What has none is a mere pause.

    ``scopes`` and ``records`` are the names of the fields that hold them, such as ``scope_logs`` and ``log_records``.
    """
    what = records.replace("_", " ")
    budget.take(len(resources), RECORD, "resources")
    for index, of_resource in enumerate(resources):
        if index % PACE == 0:
            yield b"", (), ""
        its_scopes = getattr(of_resource, scopes)
        budget.take(len(its_scopes), RECORD, "scopes")
        resource_field = None
        for number, of_scope in enumerate(its_scopes, 1):
            if number % PACE == 0:
                yield b"", (), ""
            if not getattr(of_scope, records):
                continue
            if resource_field is None:  # before, nothing would refer to it
                resource = of_resource.resource if of_resource.HasField("resource") else None
                resource_field = int8(dimensions.resource(resource, of_resource.schema_url))
            scope = of_scope.scope if of_scope.HasField("scope") else None
            scope_field = int8(dimensions.scope(scope, of_scope.schema_url))
            place = f"resource_{scopes.removeprefix('scope_')}[{index}].{scopes}[{number - 1}].{records}"
            its_records = getattr(of_scope, records)
            budget.take(len(its_records), RECORD, what)
            yield resource_field + scope_field, its_records[:], place
