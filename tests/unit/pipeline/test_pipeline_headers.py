"""Headers that cannot be sent are found in the configuration, and what they hold stays there."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import ConfigError, load

CONFIG = """
receivers: {{otlp: , hostmetrics: {{headers: {hostmetrics}}}}}
exporters: {{loki: {loki}, otlp: {{endpoint: "http://far:4317", headers: {otlp}}}}}
service:
  telemetry: {{endpoint: "http://far:4317", headers: {telemetry}}}
  pipelines: {{logs: {{receivers: [otlp], exporters: [loki, otlp]}},
               metrics: {{receivers: [hostmetrics], exporters: [otlp]}}}}
"""


def refusal(tmp_path: Path, **parts: str) -> str:
    file = tmp_path / "hub.yaml"
    good = {"hostmetrics": "{}", "otlp": "{}", "telemetry": "{}", "loki": '{endpoint: "http://loki:3100"}'}
    file.write_text(CONFIG.format(**good | parts))
    with pytest.raises(ConfigError) as caught:
        load(file)
    return str(caught.value)


@pytest.mark.parametrize("part", ["hostmetrics", "otlp", "telemetry"])
@pytest.mark.parametrize(
    "value", ["Bearer hunter22\\n", " hunter22", "hunter22 ", "hunter22\\0", "hunter22é", "a\\r\\nb"]
)
def test_a_value_that_no_request_could_carry(tmp_path: Path, part: str, value: str) -> None:
    said = refusal(tmp_path, **{part: f'{{authorization: "{value}"}}'})
    assert "headers.authorization: expected a text of printable ASCII characters" in said
    assert "hunter" not in said


@pytest.mark.parametrize("part", ["hostmetrics", "otlp", "telemetry"])
@pytest.mark.parametrize("name", ["x key", "x:", "", "é", "x\\n", "authorization: Bearer hunter22"])
def test_a_name_that_no_request_could_carry(tmp_path: Path, part: str, name: str) -> None:
    said = refusal(tmp_path, **{part: f'{{"{name}": hunter22}}'})
    assert "expected the name of a header such as x-api-key" in said
    assert "hunter" not in said


@pytest.mark.parametrize("setting", ["bearer_token", "tenant_id"])
def test_what_loki_is_sent_in_headers(tmp_path: Path, setting: str) -> None:
    said = refusal(tmp_path, loki=f'{{endpoint: "http://loki:3100", {setting}: "hunter22\\n"}}')
    assert f"exporters.loki.{setting}: expected a text of printable ASCII characters" in said
    if setting == "bearer_token":
        assert "hunter" not in said


def test_a_url_is_no_place_for_a_password_since_it_is_written_to_logs(tmp_path: Path) -> None:
    said = refusal(tmp_path, loki='{endpoint: "https://123:hunter22@logs.example.com"}')
    assert "exporters.loki.endpoint: expected a URL without user name and password" in said
    assert "basic_auth" in said
    assert "found 'https://…@logs.example.com'" in said


def test_what_can_be_sent_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "hub.yaml"
    headers = '{authorization: "Basic a+/=", X-Scope_1.a: "two words", empty: ""}'
    loki = '{endpoint: "http://loki:3100", tenant_id: "a|b", headers: ' + headers + "}"
    file.write_text(CONFIG.format(hostmetrics=headers, otlp=headers, telemetry=headers, loki=loki))
    load(file)
