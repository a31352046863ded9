"""What the gateway tells about itself arrives like anybody's telemetry, and does not feed on itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import psycopg
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.integration.cli.processes import HubProcess, config_text, free_port, hubs
from tests.integration.test_lifecycle import BEGAN
from tests.support.waiting import PATIENCE

UNREACHABLE = "postgresql://nobody@127.0.0.1:1/nothing"

TALKATIVE: dict[str, Any] = {
    "telemetry": {
        "metrics": {"enabled": True, "interval": "1s"},
        "traces": {"enabled": True, "sampling_ratio": 1.0},
    }
}


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    """A hub that tells everything about itself, every second."""
    with hubs(forked=True) as started:
        yield started.start(config_text(service=TALKATIVE)).until_ready()


def rows(hub: HubProcess, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(hub.dsn) as connection:
        return connection.execute(query.encode(), parameters).fetchall()


def latest(hub: HubProcess, name: str) -> dict[tuple[str, ...], float]:
    """The latest value of each series of a metric, by the values of its attributes in the order of their names."""
    query = """
        SELECT DISTINCT ON (series_id) value,
               ARRAY(SELECT item.value FROM jsonb_each_text(attributes) AS item ORDER BY item.key)
        FROM metrics WHERE name = %s ORDER BY series_id, time DESC"""
    return {tuple(attributes): value for value, attributes in rows(hub, query, name)}


def count_of(hub: HubProcess, query: str) -> int:
    return int(rows(hub, query)[0][0])


def spans(hub: HubProcess) -> int:
    return count_of(hub, "SELECT count(*) FROM spans WHERE service_name = 'obs-hub'")


def export_cycles(hub: HubProcess) -> int:
    """How often the gateway's metrics have arrived in the store."""
    return count_of(
        hub, "SELECT count(*) FROM metrics WHERE service_name = 'obs-hub' AND name = 'obs_hub.in_flight.size'"
    )


def wait_for_cycles(hub: HubProcess, more: int) -> None:
    seen = export_cycles(hub)
    hub.until(lambda: export_cycles(hub) >= seen + more)


def logs(count: int, time_unix_nano: int = BEGAN, name: str = "a") -> bytes:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for number in range(count):
        scope.log_records.add(time_unix_nano=time_unix_nano).body.string_value = f"{name} {number}"
    return request.SerializeToString()


def metrics(count: int) -> bytes:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="test")
    for number in range(count):
        metric.gauge.data_points.add(time_unix_nano=BEGAN + number, as_double=number)
    return request.SerializeToString()


def traces(count: int) -> bytes:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number in range(1, count + 1):
        scope.spans.add(
            trace_id=number.to_bytes(16, "big"),
            span_id=number.to_bytes(8, "big"),
            name="test",
            start_time_unix_nano=BEGAN,
            end_time_unix_nano=BEGAN,
        )
    return request.SerializeToString()


_SERVICES = {"logs": "logs.v1.LogsService", "metrics": "metrics.v1.MetricsService", "traces": "trace.v1.TraceService"}


def send(hub: HubProcess, signal: str, payload: bytes) -> None:
    with grpc.insecure_channel(hub.grpc) as channel:
        export: Any = channel.unary_unary(f"/opentelemetry.proto.collector.{_SERVICES[signal]}/Export")
        export(payload, timeout=PATIENCE)


def test_it_counts_what_it_accepts_and_stores_by_signal(hub: HubProcess) -> None:
    before = {name: latest(hub, f"obs_hub.records.{name}") for name in ("accepted", "stored")}
    for signal, payload in (("logs", logs(7, name="counted")), ("metrics", metrics(5)), ("traces", traces(3))):
        send(hub, signal, payload)
    # Nobody else sends logs here, so those can be counted exactly; the others are counted with the gateway's own.
    for name, exporter in (("accepted", ()), ("stored", ("timescale",))):
        wanted = before[name].get((*exporter, "logs"), 0) + 7

        def counted(name: str = name, exporter: tuple[str, ...] = exporter, wanted: float = wanted) -> bool:
            found = {signal: latest(hub, f"obs_hub.records.{name}").get((*exporter, signal), 0) for signal in _SERVICES}
            return found["logs"] == wanted and found["metrics"] >= 5 and found["traces"] >= 3

        hub.until(counted)


def test_it_counts_duplicates(hub: HubProcess) -> None:
    before = latest(hub, "obs_hub.records.duplicate").get(("timescale", "logs"), 0)
    for _ in range(3):
        send(hub, "logs", logs(4, name="sent again"))
    hub.until(lambda: latest(hub, "obs_hub.records.duplicate").get(("timescale", "logs")) == before + 8)


def test_it_counts_what_it_refuses_by_reason(hub: HubProcess) -> None:
    with pytest.raises(grpc.RpcError):
        send(hub, "logs", b"no protobuf")
    send(hub, "logs", logs(6, time_unix_nano=1, name="too old"))
    hub.until(lambda: latest(hub, "obs_hub.requests.refused").get(("malformed", "logs")) == 1)
    hub.until(lambda: latest(hub, "obs_hub.records.refused").get(("rejected", "logs")) == 6)


@pytest.mark.parametrize("name", ["duration", "records", "batches"])
def test_it_measures_its_commits(hub: HubProcess, name: str) -> None:
    query = """
        SELECT count, sum FROM histograms
        WHERE name = %s AND attributes = '{"exporter": "timescale"}' ORDER BY time DESC LIMIT 1"""
    ((count, total),) = hub.until(lambda: rows(hub, query, f"obs_hub.commit.{name}"))
    assert count > 0
    assert total > 0


def test_it_says_what_it_holds(hub: HubProcess) -> None:
    send(hub, "metrics", metrics(1))
    hub.until(lambda: any(value > 0 for value in latest(hub, "obs_hub.series_cache.size").values()))
    hub.until(lambda: () in latest(hub, "obs_hub.in_flight.size"))


def test_it_says_who_it_is(hub: HubProcess) -> None:
    query = "SELECT DISTINCT resource FROM metrics WHERE service_name = 'obs-hub'"
    ((resource,),) = hub.until(lambda: rows(hub, query))
    assert int(resource["process.pid"]) == hub.pid
    assert {"service.version", "service.instance.id", "host.name"} <= resource.keys()


def test_a_commit_is_a_span(hub: HubProcess) -> None:
    send(hub, "logs", logs(11, name="traced"))
    query = """
        SELECT attributes, status FROM spans
        WHERE service_name = 'obs-hub' AND name = 'commit' AND (attributes ->> 'obs_hub.records')::int >= 11"""
    (attributes, status), *_ = hub.until(lambda: rows(hub, query))
    assert attributes["exporter"] == "timescale"
    assert attributes["obs_hub.batches"] >= 1
    assert status == "unset"


def test_it_does_not_feed_on_itself(hub: HubProcess) -> None:
    send(hub, "logs", logs(1, name="the last from outside"))
    # The span of that commit is sent by itself within some seconds; after a while of silence there are no others.
    for _ in range(5):
        before = spans(hub)
        wait_for_cycles(hub, 8)
        if spans(hub) == before:
            break
    points = count_of(hub, "SELECT count(*) FROM metrics WHERE service_name = 'obs-hub'")
    series = count_of(hub, "SELECT count(DISTINCT series_id) FROM metrics WHERE service_name = 'obs-hub'")
    wait_for_cycles(hub, 8)
    assert spans(hub) == before
    assert count_of(hub, "SELECT count(*) FROM metrics WHERE service_name = 'obs-hub'") > points
    assert count_of(hub, "SELECT count(DISTINCT series_id) FROM metrics WHERE service_name = 'obs-hub'") == series


def test_nothing_is_said_where_it_is_told_to_be_silent() -> None:
    with hubs(forked=True) as started:
        hub = started.start(config_text()).until_ready()
        send(hub, "logs", logs(1))
        assert hub.stop() == 0
        hub = started.start(config_text()).until_ready()
        assert count_of(hub, "SELECT count(*) FROM resource WHERE service_name = 'obs-hub'") == 0
        assert count_of(hub, "SELECT count(*) FROM logs") == 1


def test_what_was_counted_last_is_flushed_at_the_end() -> None:
    with hubs(forked=True) as started:
        rarely = {"telemetry": {"metrics": {"interval": "1h"}, "traces": {"sampling_ratio": 1.0}}}
        hub = started.start(config_text(service=rarely)).until_ready()
        send(hub, "logs", logs(9))
        assert hub.stop() == 0
        hub = started.start(config_text()).until_ready()
        assert latest(hub, "obs_hub.records.accepted")["logs",] == 9
        assert spans(hub) == 1


def test_what_it_has_no_pipeline_for_is_not_said() -> None:
    """A hub for logs alone takes no metrics, not even its own, and does not complain of that."""
    with hubs(forked=True) as started:
        only_logs = {"pipelines": {"logs": {"receivers": ["otlp"], "exporters": ["timescale"]}}, **TALKATIVE}
        hub = started.start(config_text(timescale={"dsn": UNREACHABLE}, service=only_logs)).until_ready()
        send(hub, "logs", logs(1))
        assert hub.stop() == 0  # which sends what there is
        assert not [each for each in hub.log if each["logger"].startswith("opentelemetry")]


def test_it_is_sent_over_http_where_the_environment_says_so() -> None:
    port = free_port()
    with hubs(forked=True) as started:
        elsewhere = started.start(config_text(http=port), name="elsewhere").until_ready()
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        hub = started.start(config_text(timescale={"dsn": UNREACHABLE}, service=TALKATIVE), **variables).until_ready()
        elsewhere.until(lambda: latest(elsewhere, "obs_hub.in_flight.size"))
        send(hub, "logs", logs(1))
        elsewhere.until(lambda: spans(elsewhere))


def test_a_destination_that_cannot_be_used_is_said_before_anything_starts() -> None:
    with hubs(forked=True) as started:
        hub = started.start(
            config_text(service=TALKATIVE),
            first=True,
            OTEL_EXPORTER_OTLP_ENDPOINT="localhost:4318",
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        )
        assert hub.wait() == 1
        assert hub.stderr.startswith("Error: OTEL_EXPORTER_OTLP_ENDPOINT: expected a URL such as http://")
        assert not (hub.data_dir / "postgres").exists()
