"""The exporter keeps to what the hub relies on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from google.protobuf.json_format import Parse
from hub_example.jsonlines import REQUESTS, JsonLinesConfig, count, create

from obs_hub.component import Context, Exporter, Signal
from obs_hub.testing import ExporterContract


class TestJsonLines(ExporterContract):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "lines.jsonl"
        self.path.touch()

    def make(self) -> Exporter:
        return create("jsonlines", JsonLinesConfig(path=self.path), Context())

    def stored(self) -> int:
        return sum(map(records, self.path.read_text().splitlines()))

    @contextmanager
    def away(self) -> Iterator[None]:
        elsewhere = self.path.rename(self.path.with_suffix(".away"))
        self.path.mkdir()
        try:
            yield
        finally:
            self.path.rmdir()
            elsewhere.rename(self.path)


def records(line: str) -> int:
    fields = {"resourceMetrics": Signal.METRICS, "resourceLogs": Signal.LOGS, "resourceSpans": Signal.TRACES}
    (signal,) = [signal for field, signal in fields.items() if field in line] or [Signal.LOGS]
    return count(signal, Parse(line, REQUESTS[signal]()))
