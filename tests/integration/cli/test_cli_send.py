"""``obs-hub send``: a record goes in at a client's end, and is read back from the store."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.integration.cli.processes import HubProcess, config_text, free_port, hubs, obs_hub

Command = Callable[..., "CompletedProcess[str]"]

SENT = re.compile(
    r"acknowledged by (?P<endpoint>\S+) after [\d.]+ ms\n"
    r"read back from (?P<view>\w+) after [\d.]+ ms\n"
    r"its mark, among the attributes: obs_hub\.synthetic\.id = (?P<mark>[0-9a-f]{32})\n"
)


def stored(on_hub: Command, sent: CompletedProcess[str]) -> dict[str, Any]:
    """The record that was sent, as ``obs-hub query`` finds it by its mark."""
    assert sent.returncode == 0, sent.stderr
    said = SENT.fullmatch(sent.stdout)
    assert said is not None, sent.stdout
    found = on_hub(
        "query --json", f"SELECT * FROM {said['view']} WHERE attributes ->> 'obs_hub.synthetic.id' = '{said['mark']}'"
    )
    (record,) = json.loads(found.stdout)
    return dict(record)


def test_a_metric(on_hub: Command) -> None:
    sent = on_hub("send metric room.temperature 21.5 --unit Cel --attribute room=kitchen --service thermometer")
    record = stored(on_hub, sent)
    assert (record["name"], record["value"], record["unit"], record["type"]) == (
        "room.temperature",
        21.5,
        "Cel",
        "gauge",
    )
    assert record["attributes"]["room"] == "kitchen"
    assert record["service_name"] == "thermometer"


def test_a_negative_value(on_hub: Command) -> None:
    assert stored(on_hub, on_hub("send metric freezer.temperature -18.5"))["value"] == -18.5


def test_a_log_record(on_hub: Command) -> None:
    record = stored(on_hub, on_hub('send log "backup finished" --severity warn -a job=nightly -a host=nas=2'))
    assert (record["body"], record["severity"], record["severity_number"]) == ("backup finished", "WARN", 13)
    assert record["event_name"] is None
    assert (record["attributes"]["job"], record["attributes"]["host"]) == ("nightly", "nas=2")


def test_a_severity_by_another_name(on_hub: Command) -> None:
    record = stored(on_hub, on_hub('send log "disk full" --severity Warning'))
    assert (record["severity"], record["severity_number"]) == ("WARN", 13)


def test_a_duration_with_its_unit(on_hub: Command) -> None:
    assert stored(on_hub, on_hub("send span checkout --duration 120ms"))["duration_ms"] == 120.0


def test_a_span(on_hub: Command) -> None:
    record = stored(on_hub, on_hub('send span "GET /cart" --duration 0.125'))
    assert (record["name"], record["duration_ms"], record["parent_span_id"]) == ("GET /cart", 125.0, None)


def test_a_span_that_began_long_ago_is_found(on_hub: Command) -> None:
    assert stored(on_hub, on_hub("send span nightly --duration 20000"))["duration_ms"] == 2e7


def test_an_event_with_a_body_of_any_shape(on_hub: Command) -> None:
    body = {"total": 12.5, "lines": [{"sku": "a", "count": 2}, None, True], "note": "Grüße"}
    record = stored(on_hub, on_hub("send event order.placed --body", json.dumps(body)))
    assert (record["name"], record["body"]) == ("order.placed", body)


def test_an_event_without_a_body(on_hub: Command) -> None:
    assert stored(on_hub, on_hub("send event backup.started"))["body"] is None


def test_it_need_not_look_for_the_record(on_hub: Command, hub: HubProcess) -> None:
    sent = on_hub("send log quick --no-confirm")
    assert sent.returncode == 0
    assert re.fullmatch(rf"acknowledged by {hub.grpc} after [\d.]+ ms\n", sent.stdout)


def test_an_endpoint_is_written_as_an_address_or_as_a_url(on_hub: Command, hub: HubProcess) -> None:
    for endpoint in (hub.grpc, f"http://{hub.grpc}"):
        stored(on_hub, on_hub("send log hello --endpoint", endpoint))


def test_where_nobody_listens_it_says_what_to_start(on_hub: Command) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    sent = on_hub("send log hello --endpoint", nobody)
    assert (sent.returncode, sent.stdout) == (1, "")
    assert sent.stderr.startswith(f"Error: {nobody} answers UNAVAILABLE: ")
    assert sent.stderr.endswith(
        "Start a gateway with `obs-hub up`, or name another --endpoint; with https:// when it speaks TLS.\n"
    )


def test_where_something_else_listens_it_says_what_it_looks_for(on_hub: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sent = on_hub("send log hello --timeout 0.5 --endpoint", f"127.0.0.1:{silent.getsockname()[1]}")
    assert sent.returncode == 1
    assert "DEADLINE_EXCEEDED" in sent.stderr
    assert sent.stderr.endswith("Look whether that is where OTLP/gRPC is taken: OTLP/HTTP has a port of its own.\n")


def test_a_record_that_is_rejected_is_not_reported_as_acknowledged() -> None:
    # A clock that is off, seen from here: the gateway takes nothing older than a moment.
    with hubs(forked=True) as started:
        strict = {"accept": {"past": "1ms"}}
        hub = started.start(config_text(timescale=strict)).until_ready()
        sent = obs_hub("send", "span", "old", "--duration", "5", "--data-dir", hub.data_dir)
        assert sent.returncode == 1
        assert "1 spans rejected: 1 older than" in sent.stderr
        assert "acknowledged" not in sent.stdout


@pytest.mark.parametrize("record", ["metric room.temperature 1", "log hello", "span hello", "event hello"])
def test_a_store_that_cannot_be_read_is_told_apart_from_a_gateway_that_does_not_answer(
    on_hub: Command, record: str
) -> None:
    sent = on_hub(f"send {record} --dsn", f"postgresql://127.0.0.1:{free_port()}/none?connect_timeout=2")
    assert sent.returncode == 1
    assert sent.stdout.startswith("acknowledged by ")
    assert sent.stderr.startswith("Error: the store cannot be read: ")
    assert "Traceback" not in sent.stderr
