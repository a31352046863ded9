"""Coverage-guided fuzzing of the decoders, where atheris is installed (it is no dependency of the project)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.telemetry import gauge, logs, spans
from tests.support.waiting import PATIENCE

_ROOT = Path(__file__).parents[2]
_RUNS = 3_000

_TARGET = """
import sys
import atheris
with atheris.instrument_imports(include=["exporters.timescale", "receivers.otlp"]):
    from exporters.timescale.exporter import TimescaleExporter
    from receivers.otlp import compression, otlp_json
from gateway.component import Batch, MalformedPayloadError, Signal, TooLargeError
from tests.support.stores import prepare, settings

exporter = TimescaleExporter("timescale", settings(), "")
SIGNALS = list(Signal)
ENCODINGS = ["identity", "gzip", "deflate", "zstd"]

def one(data):
    if not data:
        return
    signal, how = SIGNALS[data[0] % 3], data[0] // 3 % 3
    body = bytes(data[1:])
    try:
        if how == 0:
            prepare(exporter, Batch.of(signal, body))
        elif how == 1:
            prepare(exporter, Batch.of(signal, otlp_json.to_protobuf(signal, body).payload))
        else:
            compression.decompress(body, ENCODINGS[data[0] // 9 % 4], 2**20)
    except (MalformedPayloadError, TooLargeError, compression.DecompressedTooLargeError):
        pass

atheris.Setup(sys.argv, one)
atheris.Fuzz()
"""


def test_decoders_raise_only_what_they_say(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed; coverage-guided fuzzing is left out")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, batch in enumerate((gauge(), logs("a"), spans("a"))):
        signal = list(type(batch.signal)).index(batch.signal)
        (corpus / str(number)).write_bytes(bytes([signal]) + batch.payload)
    (corpus / "json").write_bytes(
        b"\4" + b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"a"}}]}]}]}'
    )
    command = [sys.executable, "-c", _TARGET, f"-runs={_RUNS}", f"-artifact_prefix={tmp_path}/", str(corpus)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
