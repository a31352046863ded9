"""Functions of a user's: what they are given, what they can change, and what becomes of their faults."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from pydantic import ValidationError

from gateway.component import Batch, Signal, UnavailableError
from gateway.processors.python.processor import FunctionError
from tests.support.processing import attributes_of, batch_of, process, processor, read, records_of
from tests.support.telemetry import logs, set_attributes, spans

FUNCTIONS = """
import threading
RELEASED = threading.Event()

def nothing(record): pass
def without_b(record): return record.body != "b"
def shout(record):
    record.body = {"said": record.body.upper(), "by": record.resource["host.name"], "in": record.scope_name}
    record.attributes["length"] = 1
    record.severity_number, record.severity_text, record.name = 17, "ERROR", "shouted"
def rename(span):
    span.name = f"{span.name} {span.kind} {span.status_code}"
    span.status_message = "changed"
    span.attributes = {"duration": span.end_time_unix_nano - span.start_time_unix_nano}
def point(each):
    each.attributes.pop("user", None)
    each.attributes["was"] = f"{each.name} {each.unit} {each.type} {each.value}"
def nested(record): record.attributes["list"].append(2)
def fails_on_b(record):
    if record.body == "b": raise ValueError("secret text of b")
def wrong_type(record): record.attributes["a"] = object()
def too_big(record): record.attributes["a"] = 2**70
def endless(record):
    while record.body == "b": pass
def stubborn(record):
    while record.body == "b":
        try:
            while True: pass
        except Exception: pass
def waits(record):
    if record.body == "b": RELEASED.wait()
async def later(record): pass
not_callable = 1
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path) -> Iterator[None]:
    (tmp_path / "functions_of_a_user.py").write_text(FUNCTIONS)
    sys.path.append(str(tmp_path))
    yield
    if (loaded := sys.modules.get("functions_of_a_user")) is not None:
        vars(loaded)["RELEASED"].set()
    sys.path.remove(str(tmp_path))
    sys.modules.pop("functions_of_a_user", None)


def settings(function: str, **more: Any) -> dict[str, Any]:
    return {"function": f"functions_of_a_user:{function}", **more}


def bodies(batch: Batch | None) -> list[str]:
    return [each.body.string_value for each in records_of(read(batch))]


async def test_what_is_not_changed_keeps_its_bytes() -> None:
    batch = logs("a", "b")
    assert (await process("python", settings("nothing"), batch)).batch is batch


async def test_false_leaves_a_record_out() -> None:
    result = await process("python", settings("without_b"), logs("a", "b", "c"))
    assert bodies(result.batch) == ["a", "c"]
    assert result.dropped == 1


async def test_a_log_record_can_be_changed() -> None:
    result = await process("python", settings("shout"), logs("a"))
    (record,) = records_of(read(result.batch))
    assert {each.key: each.value.string_value for each in record.body.kvlist_value.values} == {
        "said": "A",
        "by": "nas",
        "in": "",
    }
    assert attributes_of(record) == {"length": 1}
    assert (record.severity_number, record.severity_text, record.event_name) == (17, "ERROR", "shouted")


async def test_a_span_can_be_changed() -> None:
    result = await process("python", settings("rename"), spans("a", at=1, end_time_unix_nano=11, kind=2))
    (span,) = records_of(read(result.batch))
    assert (span.name, span.status.message, attributes_of(span)) == ("a 2 0", "changed", {"duration": 10})


async def test_data_points_of_all_kinds_can_be_changed() -> None:
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    for kind in ("gauge", "sum", "histogram", "exponential_histogram", "summary"):
        point = getattr(metrics.add(name="m", unit="s"), kind).data_points.add(time_unix_nano=1)
        set_attributes(point.attributes, {"user": "bob"})
    metrics[0].gauge.data_points[0].as_double = 1.5
    metrics[1].sum.data_points[0].as_int = -5
    result = await process("python", settings("point"), batch_of(request))
    said = [attributes_of(each)["was"] for each in records_of(read(result.batch))]
    assert said == [
        "m s gauge 1.5",
        "m s sum -5",
        "m s histogram None",
        "m s exponential_histogram None",
        "m s summary None",
    ]
    assert records_of(read(result.batch))[1].as_int == -5


async def test_a_value_that_is_changed_in_place_is_written_back() -> None:
    request = ExportLogsServiceRequest.FromString(logs("a").payload)
    record = request.resource_logs[0].scope_logs[0].log_records[0]
    record.attributes.add(key="list").value.array_value.values.add().int_value = 1
    result = await process("python", settings("nested"), batch_of(request))
    (made,) = records_of(read(result.batch))
    assert [each.int_value for each in made.attributes[0].value.array_value.values] == [1, 2]


@pytest.mark.parametrize(
    ("on_error", "left", "dropped", "rejected"),
    [("reject", ["a", "c"], 0, 1), ("drop", ["a", "c"], 1, 0), ("keep", ["a", "b", "c"], 0, 0)],
)
async def test_a_record_on_which_it_fails_costs_no_other(
    on_error: str, left: list[str], dropped: int, rejected: int
) -> None:
    result = await process("python", settings("fails_on_b", on_error=on_error), logs("a", "b", "c"))
    assert bodies(result.batch) == left
    assert (result.dropped, result.outcome.rejected) == (dropped, rejected)
    assert "secret text" not in result.outcome.message
    if rejected:
        assert "ValueError in fails_on_b, line" in result.outcome.message


@pytest.mark.parametrize("function", ["wrong_type", "too_big"])
async def test_what_otlp_cannot_carry_is_a_fault_of_the_function(function: str) -> None:
    result = await process("python", settings(function), logs("a"))
    assert result.batch is None
    assert result.outcome.rejected == 1


@pytest.mark.parametrize("function", ["endless", "stubborn"])
async def test_one_that_does_not_end_is_broken_off(function: str) -> None:
    result = await process("python", settings(function, timeout="50ms"), logs("a", "b", "c"))
    assert bodies(result.batch) == ["a"]
    assert result.outcome.rejected == 2
    assert "the time for a batch was over" in result.outcome.message


@pytest.mark.skipif(
    sys.gettrace() is not None and sys.version_info < (3, 12),
    reason="while an exception waits for a thread that does not run, CPython 3.11 does not get on under a tracer",
)
async def test_one_that_cannot_be_broken_off_has_batches_refused_until_it_returns() -> None:
    made: Any = processor("python", settings("waits", timeout="300ms"), Signal.LOGS)
    await made.start()
    with pytest.raises(UnavailableError, match="does not return"):
        await made.process(logs("b"))
    with pytest.raises(UnavailableError, match="does not return"):
        await made.process(logs("a"))
    stuck = made._stuck
    vars(sys.modules["functions_of_a_user"])["RELEASED"].set()
    await asyncio.wait([stuck])
    await asyncio.sleep(0)
    batch, made._timeout = logs("a"), 30.0
    assert (await made.process(batch)).batch is batch
    await made.stop()


@pytest.mark.parametrize(
    ("function", "why"),
    [
        ("functions_of_a_user:missing", "cannot be loaded: AttributeError"),
        ("no_such_module:f", "cannot be loaded: ModuleNotFoundError"),
        ("functions_of_a_user:not_callable", "is no function"),
        ("functions_of_a_user:later", "is no function"),
    ],
)
async def test_what_cannot_be_loaded_is_said_at_the_start(function: str, why: str) -> None:
    with pytest.raises(FunctionError, match=why):
        await processor("python", {"function": function}, Signal.LOGS).start()


async def test_a_module_may_be_in_a_directory_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "module_in_a_directory.py").write_text("def f(record): return False\n")
    own = {"function": "module_in_a_directory:f", "path": str(tmp_path / "own")}
    assert (await process("python", own, logs("a"))).batch is None


def test_a_function_is_named_by_its_module() -> None:
    with pytest.raises(ValidationError, match="expected module:function"):
        processor("python", {"function": "just_a_name"}, Signal.LOGS)
