"""What a user may set of the Timescale exporter."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from exporters.timescale.config import TimescaleConfig


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://hub:pa%25ss%40word@db.example.com:5432/telemetry?sslmode=require",
        "postgres://hub@/telemetry?host=/run/postgresql",
        "postgresql://hub@%40abstract/telemetry",
        "host=db.example.com user=hub password='pa%ss@ word' dbname=a@b",
        "service=telemetry",
    ],
)
def test_a_connection_string_in_either_form(dsn: str) -> None:
    config = TimescaleConfig.model_validate({"dsn": dsn})
    assert config.dsn is not None
    assert config.dsn.get_secret_value() == dsn


@pytest.mark.parametrize("password", ["se%cret", "se cret", "se@cret", "se/cr@et", "se@cret:x", "s@e@cret", "se/cret"])
def test_a_password_that_a_uri_cannot_hold_as_it_is_is_refused_and_not_told(password: str) -> None:
    """libpq would take a part of it for a host or a port, look for that, and say so in the log."""
    with pytest.raises(ValidationError) as found:
        TimescaleConfig.model_validate({"dsn": f"postgresql://hub:{password}@db.example.com/telemetry"})
    (error,) = found.value.errors()
    assert "of a password are written %25 %40" in error["msg"]
    assert "cret" not in error["msg"].replace("secret", "")


@pytest.mark.parametrize(
    ("settings", "place", "said", "refused"),
    [
        ({"retention": {"metrics": "2d"}, "accept": {"past": "3d"}}, "accept.past", "retention.metrics (2d)", True),
        ({"retention": {"logs": "2d"}, "accept": {"past": "3d"}}, "accept.past", "retention.logs (2d)", False),
        ({"accept": {"past": "20d"}}, "accept.past", "retention.traces (14d)", False),
        ({"retention": {"rollup_1m": "3d"}}, "retention.rollup_1m", "shorter than data points are accepted (30d", True),
        (
            {"retention": {"metrics": None, "logs": None, "traces": None}, "accept": {"past": "100d"}},
            "retention.rollup_1m",
            "90d is shorter",
            True,
        ),
    ],
)
def test_settings_that_contradict_are_told_with_their_place(
    settings: dict[str, Any], place: str, said: str, refused: bool
) -> None:
    (found,) = TimescaleConfig.model_validate(settings).contradictions()
    assert ".".join(found.place) == place
    assert said in found.message
    assert found.refused is refused


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"accept": {"past": "14d"}},
        {"retention": {"metrics": None}},
        {"retention": {"metrics": "2d"}},
        {"retention": {"rollup_1m": "3d"}, "rollups": False},
        {"retention": {"metrics": "1d", "rollup_1m": "1d"}},
    ],
)
def test_settings_that_do_not_contradict_are_left_alone(settings: dict[str, Any]) -> None:
    assert not list(TimescaleConfig.model_validate(settings).contradictions())
