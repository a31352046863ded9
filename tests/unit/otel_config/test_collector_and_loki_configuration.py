"""The configurations of the OpenTelemetry Collector and of Loki."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from receivers.otlp.config import HttpConfig
from tests.support.waiting import PATIENCE

CONFIG = Path(__file__).parents[3] / "otel-config"
COLLECTOR, LOKI = CONFIG / "collector/config.yaml", CONFIG / "loki/config.yaml"


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return document


def test_the_collectors_pipelines_name_what_is_defined() -> None:
    config = read(COLLECTOR)

    for name, pipeline in config["service"]["pipelines"].items():
        assert name.split("/")[0] in ("metrics", "logs", "traces")
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(config[kind]), name
        assert pipeline["processors"][0] == "memory_limiter"
        # A batch answers whoever sends before the gateway has.
        assert ("batch" in pipeline["processors"]) == ("otlp" not in pipeline["receivers"])
        # A request that is put together with others is another one each time that its sender repeats it.
        applications = "otlp" in pipeline["receivers"]
        assert pipeline["exporters"] == ["otlphttp/applications" if applications else "otlphttp/own"]
    assert set(config["service"]["extensions"]) == set(config["extensions"])


def test_the_collector_waits_for_answers_and_bounds_what_it_puts_together_in_bytes() -> None:
    exporters = read(COLLECTOR)["exporters"]

    for name, exporter in exporters.items():
        queue = exporter["sending_queue"]
        assert (queue["wait_for_result"], queue["block_on_overflow"]) == (True, True), name
    assert "batch" not in exporters["otlphttp/applications"]["sending_queue"]
    batch = exporters["otlphttp/own"]["sending_queue"]["batch"]
    assert batch["sizer"] == "bytes"
    assert batch["max_size"] <= HttpConfig().max_request_body_size // 2


def test_loki_takes_from_itself_what_it_takes_from_others() -> None:
    """A request above the bound of its own gRPC is refused as if it were an outage."""
    server = read(LOKI)["server"]

    assert server["grpc_server_max_recv_msg_size"] >= 64 * 2**20
    assert server["grpc_server_max_send_msg_size"] >= 64 * 2**20


def test_the_collectors_environment_is_explained_and_nothing_secret_is_written_down() -> None:
    text = COLLECTOR.read_text("utf-8")
    head = text[: text.index("receivers:")]

    for name in re.findall(r"\$\{env:(OBSHUB_\w+|LOKI_\w+)", text):
        assert name in head, f"{name} is not explained"
    for line in text.splitlines():
        assert not re.search(r"(password|token)\s*:\s*(?!\$\{env:)\S", line), line


def test_the_collector_loses_no_part_of_the_journal() -> None:
    """Its receiver by default leaves out long messages, makes lists of coloured ones, and drops what is refused."""
    journald = read(COLLECTOR)["receivers"]["journald"]

    assert (journald["all"], journald["convert_message_bytes"]) == (True, True)
    assert journald["retry_on_failure"] == {"enabled": True, "max_elapsed_time": "0s"}


def test_alloy_and_the_collector_make_the_same_of_the_journal() -> None:
    """Alloy's labels stand for the fields that the Collector has in the body; the last statement tidies up."""
    alloy = (CONFIG / "alloy/config.alloy").read_text("utf-8")
    rules = re.findall(r'source_labels = \["__journal_(\w+)"\]\s+target_label  = "(\w+)"', alloy)
    fields = {label: field.upper() for field, label in rules}
    (block,) = (part for part in alloy.split("otelcol.processor.transform") if part.startswith(' "journal"'))
    statements = re.findall(r"`(.+)`,", block)
    (own,) = read(COLLECTOR)["processors"]["transform/journal"]["log_statements"]

    assert [
        re.sub(r'log\.attributes\["(\w+)"\]', lambda found: f'log.body["{fields[found[1]]}"]', each)
        for each in statements[:-1]
    ] == own["statements"][:-1]
    for label in fields:
        assert re.search(rf"[(|]{label}[|)]", statements[-1]), f"{label} is left behind"


@pytest.mark.parametrize("command", ["otelcol-contrib", "otelcol"])
def test_the_collector_accepts_it(command: str) -> None:
    if shutil.which(command) is None:
        pytest.skip(f"there is no {command} on PATH")
    listed = subprocess.run(
        [command, "components"], check=True, capture_output=True, text=True, timeout=PATIENCE
    ).stdout
    if "journald" not in listed:
        pytest.skip(f"{command} is not the contrib distribution")
    subprocess.run([command, "validate", f"--config={COLLECTOR}"], check=True, timeout=PATIENCE)


def test_loki_keeps_logs_for_a_time_and_few_attributes_as_labels() -> None:
    config = read(LOKI)
    limits = config["limits_config"]

    assert config["compactor"]["retention_enabled"]
    assert limits["retention_period"] == "720h"
    assert limits["allow_structured_metadata"]
    labels, rest = limits["otlp_config"]["resource_attributes"]["attributes_config"]
    assert {"service.name", "host.name", "k8s.namespace.name"} <= set(labels["attributes"])
    assert rest == {"action": "structured_metadata", "regex": ".*"}


def test_loki_accepts_it(tmp_path: Path) -> None:
    if shutil.which("loki") is None:
        pytest.skip("there is no loki on PATH")
    subprocess.run(
        ["loki", f"-config.file={LOKI}", "-config.expand-env=true", "-verify-config"],
        check=True,
        timeout=PATIENCE,
        env={"LOKI_DATA": str(tmp_path)},
        executable=shutil.which("loki"),
    )
