"""A full spool refuses, or drops the oldest: which of both where, and how that is told."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from gateway.base.settings import SpoolSettings
from gateway.cli.doctor import examine
from gateway.component import OverloadedError, Signal
from gateway.config import load
from gateway.data_paths import spool_directory
from gateway.datadir import DataDir
from gateway.pipeline.spool import Spool, status
from tests.support.logged import Logged
from tests.support.telemetry import logs
from tests.unit.spool.conftest import OpenSpool, batch, everything

KIB = 1024


async def test_the_oldest_segment_makes_room_and_what_it_held_is_counted(
    open_spool: OpenSpool, tmp_path: Path, logged: Logged
) -> None:
    spool = await open_spool(max_size="1MiB", when_full="drop_oldest")
    for number in range(100):
        await spool.append(batch(number, 20 * KIB))
        assert spool.size <= 1024 * KIB
    left = [int(each.payload[:8]) for each in await everything(spool)]
    assert left == list(range(left[0], 100)), "the newest are there, in order"
    assert spool.dropped.batches == left[0]
    assert spool.dropped.size == 20 * KIB * left[0]
    assert status(tmp_path / "spool").dropped == spool.dropped
    assert logged.text.count("drops the oldest") == 1
    again = await open_spool(when_full="drop_oldest")
    assert again.dropped == spool.dropped, "nobody has to look at the right moment"


async def test_records_are_counted_in_what_is_dropped(open_spool: OpenSpool) -> None:
    spool = await open_spool(max_size="1MiB", when_full="drop_oldest")
    for number in range(12):
        await spool.append(logs("a", "b", str(number) * 100 * KIB))
    assert spool.dropped.records == 3 * spool.dropped.batches > 0


async def test_what_is_larger_than_the_spool_and_what_the_disk_does_not_take_is_dropped_too(
    open_spool: OpenSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await open_spool(max_size="1MiB", when_full="drop_oldest")
    await spool.append(batch(1))
    await spool.append(batch(2, 1100 * KIB))
    assert spool.dropped.batches == 1

    def full(_: int, __: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("gateway.pipeline.spool.spool.os.write", full)
        await spool.append(batch(3))
    assert spool.dropped.batches == 2
    assert [each.payload[:8] for each in await everything(spool)] == [b"00000001"]


async def test_room_that_is_reserved_is_not_given_to_another(open_spool: OpenSpool) -> None:
    spool = await open_spool(max_size="1MiB")
    large = batch(1, 600 * KIB)
    size = spool.reserve(large)
    assert spool.empty
    with pytest.raises(OverloadedError):
        spool.reserve(large)
    with pytest.raises(OverloadedError):
        await spool.append(large)
    spool.release(size)
    await spool.append(large)


async def test_the_digests_of_what_is_left_are_known_without_reading_it(open_spool: OpenSpool) -> None:
    spool = await open_spool(segment_size="64KiB")
    batches = [batch(number, 10 * KIB) for number in range(20)]
    for each in batches:
        await spool.append(each)
    taken, took = await spool.read(35 * KIB)
    took()
    assert await spool.digests() == [each.digest for each in batches[len(taken) :]]


@pytest.mark.parametrize(
    ("logs_to", "spool", "expected"),
    [
        (["timescale", "otlp"], "", "drop_oldest"),
        (["otlp"], "", "refuse"),  # nobody else has them
        (["timescale", "otlp"], "spool: {when_full: refuse}", "refuse"),
        (["otlp"], "spool: {when_full: drop_oldest}", "drop_oldest"),
    ],
)
def test_the_oldest_is_dropped_where_a_store_has_it_too(
    tmp_path: Path, logs_to: list[str], spool: str, expected: str
) -> None:
    path = tmp_path / "hub.yaml"
    path.write_text(f"""
receivers: {{otlp: }}
exporters:
  timescale:
  otlp:
    endpoint: http://127.0.0.1:9
    {spool}
service:
  pipelines:
    traces: {{receivers: [otlp], exporters: [timescale, otlp]}}
    logs: {{receivers: [otlp], exporters: [{", ".join(logs_to)}]}}
""")
    config = load(path)
    assert config.when_full("otlp") == expected
    assert config.when_full("timescale") == "refuse"
    beside_the_store = {Signal.TRACES, Signal.LOGS} if "timescale" in logs_to else {Signal.TRACES}
    assert config.kept_by_others("otlp") == beside_the_store, "whatever its spool does when it is full"
    assert not config.kept_by_others("timescale")


@pytest.mark.parametrize(
    ("keeps", "named", "loki", "otlp"),
    [
        ("", ["timescale", "loki"], "refuse", None),  # the store keeps events, and nobody else the plain logs
        ("logs: events", ["timescale", "loki"], "refuse", None),
        ("logs: all", ["timescale", "loki"], "drop_oldest", None),
        ("", ["timescale", "loki", "otlp"], "refuse", "drop_oldest"),
        ("logs: events", ["timescale", "otlp"], None, "refuse"),
        ("", ["timescale", "loki", "loki/two"], "drop_oldest", None),
    ],
)
def test_logs_are_kept_by_others_where_together_they_keep_all_of_them(
    tmp_path: Path, keeps: str, named: list[str], loki: str | None, otlp: str | None
) -> None:
    path = tmp_path / "hub.yaml"
    path.write_text(f"""
receivers: {{otlp: }}
exporters:
  timescale: {{{keeps}}}
  loki: {{endpoint: "http://127.0.0.1:9"}}
  loki/two: {{endpoint: "http://127.0.0.1:9"}}
  otlp: {{endpoint: "http://127.0.0.1:9"}}
service:
  pipelines:
    logs: {{receivers: [otlp], exporters: [{", ".join(named)}]}}
""")
    config = load(path)
    for exporter, expected in (("loki", loki), ("otlp", otlp)):
        if expected is not None:
            assert config.when_full(exporter) == expected


async def test_doctor_tells_what_was_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(spool_directory(tmp_path, "otlp/side") / "0", SpoolSettings(max_size=2**20, when_full="drop_oldest"))
    await spool.open()
    for _ in range(2):
        await spool.append(logs("a", "x" * 700 * KIB))
    await spool.close()
    monkeypatch.setattr("gateway.cli.doctor._examine_store", lambda *_: ())
    findings = [each for each in examine(load(None), DataDir(tmp_path)) if each.subject == "spool otlp/side"]
    assert [each.ok for each in findings] == [False]
    assert "2 records in 1 batches were dropped because it was full" in findings[0].detail
    assert "spool.max_size" in findings[0].advice
