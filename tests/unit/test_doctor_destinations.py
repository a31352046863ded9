"""What the doctor says of destinations besides the store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exporters.loki.config import LokiConfig
from exporters.otlp.config import OtlpExporterConfig
from gateway.cli.doctor import _examine_destination
from tests.integration.cli.processes import free_port
from tests.support.loki import StandInLoki


@pytest.fixture
def loki() -> Iterator[StandInLoki]:
    loki = StandInLoki()
    yield loki
    loki.stop()


@pytest.mark.parametrize(
    ("answer", "ok", "said"),
    [
        (None, True, "answers"),
        (422, True, "answers"),  # what Loki says to a request without a stream
        (401, False, "set tenant_id, basic_auth or bearer_token"),
        (404, False, "must be the base URL of a Loki"),
        (429, None, "told to answer so"),
        (503, None, "told to answer so"),
    ],
)
def test_a_loki_is_asked_as_the_exporter_would(
    loki: StandInLoki, answer: int | None, ok: bool | None, said: str
) -> None:
    loki.answer = answer
    settings = LokiConfig.model_validate({"endpoint": loki.url, "tenant_id": "home"})
    finding = _examine_destination("loki", settings)
    assert (finding.ok, finding.subject) == (ok, "exporter loki")
    assert said in finding.detail
    assert loki.requests[0]["x-scope-orgid"] == "home"
    assert not loki.entries


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_destination_that_nobody_listens_at_is_told_with_what_becomes_of_the_data(protocol: str) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    settings = OtlpExporterConfig.model_validate({"endpoint": endpoint, "protocol": protocol, "timeout": "2s"})
    finding = _examine_destination("otlp/tempo", settings)
    assert finding.ok is False
    assert "exporters.otlp/tempo" in finding.advice
    assert "waits in the spool" in finding.advice
