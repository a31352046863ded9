"""What OTLP's names become: the rules of the OpenTelemetry specification, and of Prometheus's own receiver."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.query import names
from gateway.query.names import Strategy, Translation

DEFAULT, PLAIN, SUFFIXES, NOTHING = Strategy


@pytest.mark.parametrize(
    ("kind", "name", "unit", "expected"),
    [
        # Units are spelled out.
        ("gauge", "process.memory.usage", "By", "process_memory_usage_bytes"),
        ("gauge", "disk.io", "KiBy/s", "disk_io_kibibytes_per_second"),
        ("gauge", "speed", "m/s", "speed_meters_per_second"),
        ("gauge", "speed", "km/h", "speed_km_per_hour"),
        ("gauge", "temperature", "Cel", "temperature_celsius"),
        ("gauge", "battery", "%", "battery_percent"),
        ("gauge", "weird", "f-o/b r", "weird_f_o_per_b_r"),
        # They are not said twice, and what stands in braces is no unit.
        ("gauge", "uptime.seconds", "s", "uptime_seconds"),
        ("gauge", "seconds.of.uptime", "s", "seconds_of_uptime"),
        ("gauge", "queue.length", "{item}", "queue_length"),
        ("gauge", "queue.rate", "{item}/s", "queue_rate_per_second"),
        ("gauge", "rate", "By/{op}", "rate_bytes"),
        ("gauge", "empty", "/s", "empty_per_second"),
        ("gauge", "spaced", " s\u3000/\tm ", "spaced_seconds_per_minute"),
        ("gauge", "separated", "\x1cs", "separated_s"),
        # Ratios are gauges of the unit 1; counters end with total, once.
        ("gauge", "cpu.utilization", "1", "cpu_utilization_ratio"),
        ("gauge", "ratio.of.cpu", "1", "of_cpu_ratio"),
        ("sum", "load", "1", "load"),
        ("counter", "requests", "1", "requests_total"),
        ("counter", "total.requests", "", "requests_total"),
        ("counter", "cpu.time", "s", "cpu_time_seconds_total"),
        ("counter", "io_total", "By", "io_bytes_total"),
        ("sum", "active", "{req}", "active"),
        ("histogram", "http.duration", "ms", "http_duration_milliseconds"),
        ("summary", "rpc", "s", "rpc_seconds"),
        # What names have no room for.
        ("gauge", "a..b__c", "", "a_b_c"),
        ("gauge", "2xx", "", "_2xx"),
        ("gauge", "with:colon", "", "with:colon"),
        ("gauge", "température", "", "temp_rature"),
        ("gauge", "é", "", None),
    ],
)
def test_metrics_are_named_with_underscores_and_suffixes(kind: str, name: str, unit: str, expected: str | None) -> None:
    monotonic = kind == "counter"
    assert names.metric_name(DEFAULT, name, unit, "sum" if monotonic else kind, monotonic=monotonic) == expected


@pytest.mark.parametrize(
    ("strategy", "kind", "name", "unit", "expected"),
    [
        (PLAIN, "counter", "cpu.time", "s", "cpu_time"),
        (PLAIN, "gauge", ".a..b_-c.", "1", "a_b__c"),
        (PLAIN, "gauge", "2xx", "", "_2xx"),
        (SUFFIXES, "counter", "cpu.time", "s", "cpu.time_seconds_total"),
        (SUFFIXES, "counter", "cpu.time.total", "s", "cpu.time_seconds_total"),
        (SUFFIXES, "gauge", "cpu.utilization", "1", "cpu.utilization_ratio"),
        (SUFFIXES, "counter", "bytes", "By/s", "bytes_per_second_total"),
        (SUFFIXES, "gauge", "température", "", "température"),
        (NOTHING, "counter", "cpu.time", "s", "cpu.time"),
        (NOTHING, "gauge", "", "", None),
    ],
)
def test_other_strategies(strategy: Strategy, kind: str, name: str, unit: str, expected: str | None) -> None:
    monotonic = kind == "counter"
    assert names.metric_name(strategy, name, unit, "sum" if monotonic else kind, monotonic=monotonic) == expected


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("http.route", "http_route"),
        ("http..route", "http__route"),
        ("1st", "key_1st"),
        ("_own", "key_own"),
        ("__reserved__", "__reserved__"),
        ("größe", "gr__e"),
        ("...", None),
    ],
)
def test_labels(attribute: str, expected: str | None) -> None:
    assert names.label_name(DEFAULT, attribute) == expected
    assert names.label_name(NOTHING, attribute) == attribute


@pytest.mark.parametrize(
    ("unit", "expected"), [("s", "seconds"), ("By/s", "bytes_per_second"), ("{x}/s", "per_second"), ("1", "")]
)
def test_units_of_metadata(unit: str, expected: str) -> None:
    assert names.unit_name(unit) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        (True, "true"),
        (5, "5"),
        (5.0, "5"),
        (0.0, "0"),
        (0.5, "0.5"),
        (1e21, "1e+21"),
        (1e-7, "1e-7"),
        ({"$double": "Infinity"}, "json: unsupported value: +Inf"),
        ({"$bytes": "AAE="}, "AAE="),
        (["a", 1, 2.5, None, False], '["a",1,2.5,null,false]'),
        ({"b": 1, "a": "<x>"}, '{"a":"\\u003cx\\u003e","b":1}'),
        ({"$kvlist": [["$x", 1]]}, '{"$x":1}'),
        (None, ""),
    ],
)
def test_values_as_text(value: Any, expected: str) -> None:
    assert names.text_of(value) == expected


def labels(
    attributes: dict[str, Any],
    resource: dict[str, Any],
    translation: Translation | None = None,
    scope: dict[str, Any] | None = None,
) -> dict[str, str]:
    translation = translation or Translation()
    its = names.scope_labels(translation, **scope) if scope else {}
    return names.series_labels(translation, attributes, names.resource_labels(translation, resource), its)


RESOURCE = {
    "service.namespace": "eu",
    "service.name": "shop",
    "service.instance.id": "i-1",
    "host.name": "nas",
    "cloud.region": "x",
}


def test_services_become_job_and_instance() -> None:
    assert labels({"a.b": 1}, RESOURCE) == {"a_b": "1", "job": "eu/shop", "instance": "i-1", "host_name": "nas"}
    assert labels({}, {"service.name": "shop"}) == {"job": "shop"}
    assert labels({}, {"service.namespace": "eu"}) == {}


def test_what_a_service_is_wins_over_attributes_and_these_over_promoted_ones() -> None:
    found = labels({"job": "mine", "host.name": "other"}, RESOURCE)
    assert (found["job"], found["host_name"]) == ("eu/shop", "other")
    assert labels({"job": "mine"}, {}) == {"job": "mine"}


def test_attributes_with_one_name_are_joined_in_their_order() -> None:
    assert labels({"a_b": "3", "a.b": "1", "a-b": "2"}, {}) == {"a_b": "2;1;3"}
    assert labels({"a_b": "3", "a.b": "1"}, {}, Translation(NOTHING)) == {"a_b": "3", "a.b": "1"}


def test_empty_values_and_the_name_are_no_labels() -> None:
    assert labels({"a": "", "__name__": "x", "b": "c"}, {}) == {"b": "c"}


def test_promoted_attributes_are_those_of_the_settings() -> None:
    some = Translation(promote_resource_attributes=frozenset({"cloud.region"}))
    assert labels({}, {"host.name": "nas", "cloud.region": "x"}, some) == {"cloud_region": "x"}
    every = Translation(promote_all_resource_attributes=True, ignore_resource_attributes=frozenset({"host.name"}))
    assert labels({}, {"host.name": "nas", "cloud.region": "x"}, every) == {"cloud_region": "x"}


def test_scopes_are_labels_where_they_are_wanted() -> None:
    scope = {"name": "lib", "version": "1", "schema_url": "", "attributes": {"a.b": "c"}}
    promoted = Translation(promote_scope_metadata=True)
    assert labels({}, {}, scope=scope) == {}
    assert labels({}, {}, promoted, scope) == {
        "otel_scope_name": "lib",
        "otel_scope_version": "1",
        "otel_scope_a_b": "c",
    }
    assert labels({}, {}, promoted, {**scope, "name": None}) == {}


def test_target_info_has_what_is_no_label() -> None:
    assert names.target_info(Translation(), RESOURCE) == {
        "job": "eu/shop",
        "instance": "i-1",
        "host_name": "nas",
        "cloud_region": "x",
    }
    assert names.target_info(Translation(), {"service.name": "shop"}) is None, "there is nothing to tell"
    assert names.target_info(Translation(), {"host.name": "nas"}) is None, "nobody to tell it of"
    kept = names.target_info(Translation(keep_identifying_resource_attributes=True), RESOURCE)
    assert kept is not None
    assert kept["service_name"] == "shop"


@pytest.mark.parametrize(
    ("escaped", "name"),
    [
        ("U__service_2e_name", "service.name"),
        ("U__a__b", "a_b"),
        ("U___1f4c8_", "\U0001f4c8"),
        ("plain_name", "plain_name"),
        ("U__broken_zz_", "U__broken_zz_"),
        ("U__open_2e", "U__open_2e"),
    ],
)
def test_escaped_names(escaped: str, name: str) -> None:
    assert names.unescaped(escaped) == name
