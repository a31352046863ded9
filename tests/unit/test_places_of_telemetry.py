"""Where logs are read from: as the options say, or as the configuration does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from exporters.loki.config import LokiConfig
from gateway.cli import exploring
from gateway.cli.exploring import Places
from gateway.query.logs.records import LogFilter
from tests.support.loki_queries import LokiStandIn, loki_stand_in


@pytest.fixture
def loki() -> Iterator[LokiStandIn]:
    with loki_stand_in() as loki:
        yield loki


@pytest.fixture(autouse=True)
def store_that_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody runs a store here, which would be asked for a login that may only read."""
    monkeypatch.setattr(exploring, "reading_dsn", lambda dsn, *_: dsn)


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, loki: LokiStandIn) -> LokiStandIn:
    """A Loki that the configuration names, with secrets."""
    settings = LokiConfig.model_validate(
        {
            "endpoint": loki.url,
            "tenant_id": "home",
            "bearer_token": "configured-token",
            "headers": {"X-Extra": "extra"},
        }
    )
    config = SimpleNamespace(used_exporters=["loki/main"], exporters={"loki/main": settings})
    monkeypatch.setattr(exploring, "load_config", lambda path: config)
    monkeypatch.delenv("OBSHUB_LOKI_TOKEN", raising=False)
    return loki


def asked(places: Places, loki: LokiStandIn) -> dict[str, str]:
    """Read from Loki, and return the headers of the request."""
    with places.logs() as (source,):
        source.latest(LogFilter(), 1, 2, 1)
    return loki.headers[-1]


def test_the_loki_of_the_configuration_is_read_with_its_secrets(configured: LokiStandIn) -> None:
    headers = asked(Places(None, None, None, source="loki"), configured)
    assert (headers["X-Scope-OrgID"], headers["Authorization"]) == ("home", "Bearer configured-token")
    assert headers["X-Extra"] == "extra"


def test_options_come_before_the_configuration(configured: LokiStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBSHUB_LOKI_TOKEN", "my-own")
    headers = asked(Places(None, None, None, loki_tenant="work", source="loki"), configured)
    assert (headers["X-Scope-OrgID"], headers["Authorization"]) == ("work", "Bearer my-own")


def test_secrets_of_the_configuration_are_not_sent_to_another_loki(configured: LokiStandIn) -> None:
    with loki_stand_in() as other:
        headers = asked(Places(None, None, None, loki=other.url, source="loki"), other)
    assert not {"Authorization", "X-Scope-OrgID", "X-Extra"} & set(headers)


def test_a_store_alone_asks_no_loki(configured: LokiStandIn) -> None:
    with Places(None, None, "host=/nowhere", source="store").logs() as sources:
        assert [source.name for source in sources] == ["store"]


def test_without_any_loki_it_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="give --loki URL"), Places(None, tmp_path, None, source="loki").logs():
        pass


@pytest.mark.parametrize(("source", "chosen"), [("all", True), (None, False)])
def test_what_can_be_done_without_loki_is_told_by_options_that_there_are(source: str | None, chosen: bool) -> None:
    """``obs-hub traces`` has no --source."""
    with (
        pytest.raises(click.ClickException) as raised,
        Places(None, None, "postgresql:///none", loki="http://127.0.0.1:1", source=source).logs() as sources,
    ):
        sources[1].latest(LogFilter(), 1, 2, 1)
    assert ("--source store or --source loki" in raised.value.message) is chosen
