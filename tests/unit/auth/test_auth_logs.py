"""What a log may not say, whatever goes wrong."""

from __future__ import annotations

import json
import logging  # noqa: TID251 - libraries log by it
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from gateway import logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    before = structlog.get_config()
    yield
    root.handlers, root.level = handlers, level
    structlog.configure(**before)


def fail() -> None:
    password = "hunter2"
    raise OSError(f"no way in, with {len(password)} characters")


@pytest.mark.parametrize("output", ["console", "json"])
@pytest.mark.parametrize(
    "logger", [logging.getLogger("test"), structlog.get_logger("test")], ids=["logging", "structlog"]
)
def test_a_traceback_is_written_without_the_values_of_variables(
    capsys: pytest.CaptureFixture[str], output: Any, logger: Any
) -> None:
    logs.configure("debug", output)
    try:
        fail()
    except OSError:
        logger.exception("it failed")
    said = capsys.readouterr()
    assert said.out == ""
    assert "it failed" in said.err
    assert "no way in" in said.err
    assert 'password = "hunter2"' not in said.err.replace("'", '"')
    assert "hunter2" not in said.err


def test_each_line_of_json_begins_alike_whoever_logs_it(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    structlog.get_logger("test").warning("it is slow", exporter="loki")
    logging.getLogger("test").warning("it is %s", "slow")
    for line, more in zip(capsys.readouterr().err.splitlines(), (["exporter"], []), strict=True):
        said = json.loads(line)
        assert list(said) == ["timestamp", "level", "event", "logger", *more]
        assert (said["event"], said["level"]) == ("it is slow", "warning")


def test_the_level_counts_for_all_loggers(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "json")
    for logger in (logging.getLogger("test"), structlog.get_logger("test")):
        logger.info("whisper")
        logger.warning("shout")
    said = capsys.readouterr().err
    assert said.count("shout") == 2
    assert "whisper" not in said
