"""What a hostile request may cost in memory, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")

_ROOT = Path(__file__).parents[2]
_LIMIT_MIB = 400

_PRELUDE = """
import asyncio, contextlib, cramjam, gzip, zlib, zstandard
from exporters.timescale.exporter import TimescaleExporter
from gateway.component import Batch, MalformedPayloadError, Signal, TooLargeError
from receivers.otlp.compression import DecompressedTooLargeError, decompress
from receivers.otlp.otlp_json import to_protobuf
from tests.hostile.wire_format import fixed64, message, tag, varint
from tests.support.stores import settings
from tests.support.telemetry import now
MIB = 2**20
exporter = TimescaleExporter("timescale", settings(), "")

def log(*rest):
    return message(1, message(2, message(2, fixed64(1, now()), *rest)))

def prepare(signal, payload):
    with contextlib.suppress(MalformedPayloadError, TooLargeError):
        asyncio.run(exporter.prepare(Batch.of(signal, payload)))

def bomb(body, encoding):
    with contextlib.suppress(DecompressedTooLargeError, MalformedPayloadError):
        decompress(body, encoding, 16 * MIB)
"""
_EPILOGUE = """
print(int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) // 1024)
"""


def peak_mib(code: str) -> int:
    """Run code in a child; return the most memory it ever had, in MiB."""
    # VmHWM, because ru_maxrss begins with what the process had that the child was forked from.
    script = _PRELUDE + textwrap.dedent(code) + _EPILOGUE
    done = subprocess.run([sys.executable, "-c", script], cwd=_ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


@pytest.mark.parametrize(
    "code",
    [
        "c = zlib.compressobj(9, wbits=31)\n"
        "bomb(b''.join([c.compress(bytes(MIB)) for _ in range(1024)]) + c.flush(), 'gzip')",
        "bomb(zlib.compress(bytes(64 * MIB)), 'deflate')",
        "c = zstandard.ZstdCompressor().compressobj()\n"
        "bomb(b''.join([c.compress(bytes(MIB)) for _ in range(1024)]) + c.flush(), 'zstd')",
        "bomb(gzip.compress(b'') * 200_000, 'gzip')",
        "bomb(bytes(cramjam.snappy.compress_raw(bytes(64 * MIB))), 'snappy')",
        "bomb(bytes(cramjam.snappy.compress(bytes(MIB)))[10:].join([bytes(cramjam.snappy.compress(b''))] * 1024),"
        " 'x-snappy-framed')",
        "bomb(bytes(cramjam.lz4.compress(bytes(MIB))) * 1024, 'lz4')",
    ],
    ids=["gzip", "deflate", "zstd", "members of nothing", "snappy", "framed snappy", "lz4"],
)
def test_a_bomb_costs_little(code: str) -> None:
    assert peak_mib(code) < _LIMIT_MIB


@pytest.mark.parametrize(
    "code",
    [
        "prepare(Signal.LOGS, log(message(5, message(1, bytes(15 * MIB)))))",
        """
        for n in range(4):
            buckets = tag(6) + varint(8 * (MIB - n)) + bytes(8 * (MIB - n))
            point = message(1, fixed64(3, now()), buckets)
            prepare(Signal.METRICS, message(1, message(2, message(2, message(9, point)))))
        """,
        "prepare(Signal.LOGS, message(1, message(2, message(2) * 200_000)))",
        "with contextlib.suppress(MalformedPayloadError, TooLargeError): to_protobuf(Signal.LOGS, b'[' * (8 * MIB))",
    ],
    ids=["a body of NUL", "long arrays of other lengths", "200,000 empty records", "JSON that only opens"],
)
def test_a_request_costs_little(code: str) -> None:
    assert peak_mib(code) < _LIMIT_MIB


def test_a_request_of_nothing_but_empty_records_costs_little() -> None:
    assert peak_mib("prepare(Signal.LOGS, message(1, message(2, message(2) * (2 * MIB))))") < _LIMIT_MIB


def test_large_resources_are_not_all_remembered() -> None:
    code = """
    for n in range(80):
        pair = message(1, b"%d" % n) + message(2, message(1, b"x" * (8 * MIB)))
        prepare(Signal.LOGS, message(1, message(1, message(1, pair))))
    """
    # They are decoded in threads, each with a heap of its own that it keeps; all of them together are 640 MiB.
    assert peak_mib(code) < _LIMIT_MIB + 150
