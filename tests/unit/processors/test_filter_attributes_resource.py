"""The processors that leave records out and that change attributes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from pydantic import ValidationError

from gateway.component import Batch, Signal
from gateway.otlp.wire_format import length_delimited
from tests.support.processing import attributes_of, batch_of, process, processed, processor, records_of
from tests.support.telemetry import gauge, logs, set_attributes, spans


def bodies(request: Any) -> list[str]:
    return [each.body.string_value for each in records_of(request)]


# -- filter ------------------------------------------------------------------------------------------------------------


def test_a_record_of_which_a_condition_is_true_is_left_out() -> None:
    made = processed("filter", {"drop": ["body contains 'health'", "body == 'b'"]}, logs("a", "GET /health", "b", "c"))
    assert bodies(made) == ["a", "c"]


def test_where_some_are_to_be_kept_all_others_are_left_out() -> None:
    made = processed("filter", {"keep": ["body in ['a', 'b']"], "drop": ["body == 'b'"]}, logs("a", "b", "c"))
    assert bodies(made) == ["a"]


def test_a_resource_is_left_out_as_a_whole_and_its_records_counted() -> None:
    batch = logs("a", "b", resource={"service.name": "chatty"})
    result = asyncio.run(process("filter", {"drop": ["resource['service.name'] == 'chatty'"]}, batch))
    assert result.batch is None
    assert result.dropped == 2


def test_a_condition_that_a_resource_decides_looks_at_no_record() -> None:
    broken = length_delimited(2, b"\x32\xff")
    payload = length_delimited(1, length_delimited(1, b"") + length_delimited(2, broken))
    batch = Batch.of(Signal.LOGS, payload)
    condition = "resource['service.name'] == 'chatty' and severity < warn"
    assert asyncio.run(process("filter", {"drop": [condition]}, batch)).batch is batch


def test_points_of_a_metric_are_left_out_one_by_one() -> None:
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    for kind in ("gauge", "sum", "histogram", "exponential_histogram", "summary"):
        metric = metrics.add(name=kind)
        for code in ("200", "500"):
            point = getattr(metric, kind).data_points.add(time_unix_nano=1)
            set_attributes(point.attributes, {"code": code})
    made = processed("filter", {"drop": ["attributes['code'] == '500'"]}, batch_of(request))
    assert [attributes_of(point) for point in records_of(made)] == [{"code": "200"}] * 5


def test_a_filter_says_something() -> None:
    with pytest.raises(ValidationError, match="expected conditions under drop or keep"):
        processor("filter", {}, Signal.LOGS)


# -- attributes and resource -------------------------------------------------------------------------------------------


def with_attributes(**attributes: str) -> Batch:
    request = ExportLogsServiceRequest.FromString(logs("a").payload)
    set_attributes(request.resource_logs[0].scope_logs[0].log_records[0].attributes, attributes)
    return batch_of(request)


def changed(actions: list[dict[str, Any]], **settings: Any) -> dict[str, Any]:
    made = processed("attributes", {"actions": actions, **settings}, with_attributes(user="bob", route="/a"))
    return attributes_of(records_of(made)[0])


SHA_OF_BOB = hashlib.sha256(b"bob").hexdigest()


@pytest.mark.parametrize(
    ("action", "becomes"),
    [
        ({"action": "insert", "key": "env", "value": "prod"}, {"user": "bob", "route": "/a", "env": "prod"}),
        ({"action": "insert", "key": "user", "value": "x"}, {"user": "bob", "route": "/a"}),
        ({"action": "update", "key": "user", "value": "x"}, {"user": "x", "route": "/a"}),
        ({"action": "update", "key": "env", "value": "x"}, {"user": "bob", "route": "/a"}),
        ({"action": "upsert", "key": "user", "value": 5}, {"user": 5, "route": "/a"}),
        ({"action": "upsert", "key": "env", "value": True}, {"user": "bob", "route": "/a", "env": True}),
        ({"action": "insert", "key": "who", "from_attribute": "user"}, {"user": "bob", "route": "/a", "who": "bob"}),
        ({"action": "insert", "key": "who", "from_attribute": "no"}, {"user": "bob", "route": "/a"}),
        ({"action": "delete", "key": "user"}, {"route": "/a"}),
        ({"action": "delete", "pattern": "u.*|rou"}, {"route": "/a"}),
        ({"action": "rename", "key": "user", "to": "who"}, {"who": "bob", "route": "/a"}),
        ({"action": "rename", "key": "user", "to": "route"}, {"route": "bob"}),
        ({"action": "hash", "key": "user"}, {"user": SHA_OF_BOB, "route": "/a"}),
        ({"action": "hash", "pattern": "user"}, {"user": SHA_OF_BOB, "route": "/a"}),
    ],
)
def test_an_action_is_done(action: dict[str, Any], becomes: dict[str, Any]) -> None:
    assert changed([action]) == becomes


def test_actions_are_done_in_their_order() -> None:
    actions = [
        {"action": "insert", "key": "copy", "from_attribute": "user"},
        {"action": "delete", "key": "user"},
        {"action": "rename", "key": "copy", "to": "who"},
    ]
    assert changed(actions) == {"route": "/a", "who": "bob"}


def test_a_secret_keys_the_hash() -> None:
    hashed = changed([{"action": "hash", "key": "user"}], hash_secret="s3cret")["user"]
    assert hashed == hmac.new(b"s3cret", b"bob", "sha256").hexdigest()


def test_another_secret_counts_once_it_is_rotated() -> None:
    settings = {"actions": [{"action": "hash", "key": "user"}], "hash_secret": "one"}
    made: Any = processor("attributes", settings, Signal.LOGS)
    assert made.reconfigure(made._config.model_validate(settings | {"hash_secret": "two"}))
    result = asyncio.run(made.process(with_attributes(user="bob")))
    request = ExportLogsServiceRequest.FromString(result.batch.payload)
    assert attributes_of(records_of(request)[0])["user"] == hmac.new(b"two", b"bob", "sha256").hexdigest()


def test_only_records_of_which_the_condition_is_true_are_changed() -> None:
    action = [{"action": "delete", "key": "user"}]
    assert changed(action, where="attributes['route'] == '/a'") == {"route": "/a"}
    assert changed(action, where="attributes['route'] == '/b'") == {"user": "bob", "route": "/a"}


@pytest.mark.parametrize("batch", [gauge(attributes={"user": "bob"}), spans("a")], ids=["metrics", "traces"])
def test_other_signals_have_attributes_too(batch: Batch) -> None:
    made = processed("attributes", {"actions": [{"action": "upsert", "key": "user", "value": "x"}]}, batch)
    assert attributes_of(records_of(made)[0])["user"] == "x"


def test_nothing_is_added_behind_a_record_that_is_broken() -> None:
    # The last field of this record claims what would be put behind it.
    payload = length_delimited(1, length_delimited(2, length_delimited(2, b"\x2a\x20")))
    from gateway.component import MalformedPayloadError

    with pytest.raises(MalformedPayloadError):
        asyncio.run(
            process(
                "attributes",
                {"actions": [{"action": "insert", "key": "environment", "value": "production"}]},
                Batch.of(Signal.LOGS, payload),
            )
        )


def test_a_resource_is_changed_and_its_records_are_not_looked_at() -> None:
    settings = {"attributes": [{"action": "upsert", "key": "deployment.environment.name", "value": "prod"}]}
    made = processed("resource", settings, logs("a", "b"))
    assert attributes_of(made.resource_logs[0].resource) == {"host.name": "nas", "deployment.environment.name": "prod"}
    assert bodies(made) == ["a", "b"]


@pytest.mark.parametrize(
    ("action", "why"),
    [
        ({"action": "insert", "key": "a"}, "expected value or from_attribute for insert, one of them"),
        ({"action": "delete"}, "expected key or pattern, one of them"),
        ({"action": "delete", "key": "a", "value": 1}, "not for delete"),
        ({"action": "rename", "key": "a"}, "expected to, the new key, for rename"),
        ({"action": "update", "pattern": "a", "value": 1}, "expected key for update"),
    ],
)
def test_what_an_action_lacks_is_said(action: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        processor("attributes", {"actions": [action]}, Signal.LOGS)
