"""What a user may set of the Timescale exporter."""

from __future__ import annotations

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
