"""A request that is refused is halved, always in the same way."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from receivers.journald.sender import halves
from tests.unit.journald.conftest import records_of


def request(*counts: int) -> bytes:
    made, number = ExportLogsServiceRequest(), 0
    for place, count in enumerate(counts):
        resource = made.resource_logs.add(schema_url=f"schema {place}")
        scope = resource.scope_logs.add()
        scope.scope.name = "scope"
        for _ in range(count):
            scope.log_records.add().body.string_value = str(number)
            number += 1
    return bytes(made.SerializeToString())


@pytest.mark.parametrize("counts", [(2,), (3,), (5, 1, 4), (1, 1), (1, 7, 1), (1, 1, 1, 1, 1)], ids=str)
def test_every_record_is_in_one_half(counts: tuple[int, ...]) -> None:
    whole = request(*counts)
    (first, first_count), (second, second_count) = halves(whole)
    one, two = records_of(first), records_of(second)
    assert (len(one), len(two)) == (first_count, second_count)
    assert abs(len(one) - len(two)) <= 1
    assert [record.body.string_value for record in (*one, *two)] == [str(n) for n in range(sum(counts))]
    assert halves(whole) == [(first, first_count), (second, second_count)]
    for half in (first, second):
        for resource in ExportLogsServiceRequest.FromString(half).resource_logs:
            assert resource.schema_url
            assert all(scope.log_records and scope.scope.name for scope in resource.scope_logs)
