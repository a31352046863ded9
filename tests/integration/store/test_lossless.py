"""Nothing is lost: any valid OTLP request sent to a running hub can be read back from its tables with SQL."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from exporters.timescale.config import TimescaleConfig
from tests.support.canonical import canonical, content
from tests.support.databases import Database
from tests.support.hubs import Client, running_hub, store_config
from tests.support.otlp_strategies import DAYS_BACK, logs_requests, metrics_requests, trace_requests
from tests.support.rebuild import clear, rebuild
from tests.support.waiting import PATIENCE

_UNKNOWN_FIELD = b"\xfa\x7f\x08"
"""Number 2047, eight bytes long."""

_numbers = itertools.count()

# The hub runs once for all examples of a test; between them its facts are removed.
shares_a_hub = settings(suppress_health_check=list(HealthCheck))


@dataclass
class Store:
    """A running hub, and its store."""

    hub: Client
    connection: psycopg.Connection[Any]


@pytest.fixture(scope="module")
def store(module_database: Database) -> Iterator[Store]:
    timescale = TimescaleConfig.model_validate(
        {
            "dsn": module_database.dsn,
            "accept": {"past": f"{DAYS_BACK + 5}d"},
            "maintenance_interval": "1h",
            "series_cache": 1_000,
            "timeout": f"{2 * PATIENCE:.0f}s",
            "slow_after": f"{PATIENCE:.0f}s",  # OK is to mean that it is in its tables, not in the spool
        }
    )
    with running_hub(store_config(timescale)) as hub, module_database.connect() as connection:
        yield Store(hub, connection)


def assert_kept(store: Store, signal: str, request: Any) -> None:
    if signal == "metrics":  # points of series that come together for the second time are stored otherwise
        send(store, signal, request)
    clear(store.connection, signal)
    send(store, signal, request)
    sent, kept = canonical(request), canonical(rebuild(store.connection, signal))
    if content(kept) != content(sent):
        assert str(kept) == str(sent)
        raise AssertionError(f"differ in what text does not show:\n{sent}")


def send(store: Store, signal: str, request: Any) -> None:
    # What is sent again is known again, and Hypothesis may repeat itself: a field that nobody knows makes it another.
    rejected = store.hub.send(signal, request.SerializeToString() + _UNKNOWN_FIELD + os.urandom(8))
    assert not rejected.ByteSize(), rejected


@shares_a_hub
@given(request=metrics_requests)
def test_metrics_can_be_read_back(store: Store, request: ExportMetricsServiceRequest) -> None:
    for scope in [scope for resource in request.resource_metrics for scope in resource.scope_metrics]:
        for metric in scope.metrics:
            if metric.description or metric.metadata:  # that describes all of its name, those of earlier examples too
                metric.name += f" {next(_numbers)}"
    assert_kept(store, "metrics", request)


@shares_a_hub
@given(request=logs_requests)
def test_logs_and_events_can_be_read_back(store: Store, request: Any) -> None:
    assert_kept(store, "logs", request)


@shares_a_hub
@given(request=trace_requests)
def test_traces_can_be_read_back(store: Store, request: Any) -> None:
    assert_kept(store, "traces", request)
