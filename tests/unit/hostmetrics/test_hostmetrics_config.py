"""The settings read like the Collector's."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from receivers.hostmetrics.config import HostMetricsConfig, Scrapers, selected
from receivers.hostmetrics.scrapers import sensors


def read(**settings: Any) -> HostMetricsConfig:
    return HostMetricsConfig.model_validate(settings)


def names(scrapers: Scrapers) -> set[str]:
    return {sensor.name for sensor in sensors(scrapers)}


def test_without_settings_everything_is_collected_every_15_seconds() -> None:
    assert read().collection_interval == timedelta(seconds=15)
    everything = names(Scrapers())
    for group in Scrapers.model_fields.keys() - {"process"}:
        assert names(Scrapers.model_validate({group: {"enabled": False}})) < everything, group
    assert "single processes" not in everything, "whose resources come and go"
    nothing = Scrapers.model_validate({group: {"enabled": False} for group in Scrapers.model_fields})
    assert names(nothing) == set()


def test_a_group_named_without_settings_has_its_defaults() -> None:
    assert read(scrapers={"cpu": None, "disk": None}) == read()


@pytest.mark.parametrize("settings", [None, {}, {"top": 3, "by": "memory"}, {"include_names": ["postgres"]}])
def test_single_processes_are_reported_when_the_group_is_named(settings: Any) -> None:
    assert "single processes" in names(read(scrapers={"process": settings}).scrapers)


@pytest.mark.parametrize("settings", [{"by": "luck"}, {"top": 0}, {"top": 100_000}])
def test_how_to_choose_processes_is_checked(settings: Any) -> None:
    with pytest.raises(ValidationError, match="process"):
        read(scrapers={"process": settings})


def test_a_group_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValidationError, match="gpu"):
        read(scrapers={"gpu": {}})


@pytest.mark.parametrize("interval", ["500ms", "0s", 15])
def test_an_interval_that_makes_no_sense_is_an_error(interval: Any) -> None:
    with pytest.raises(ValidationError, match="collection_interval"):
        read(collection_interval=interval)


@pytest.mark.parametrize("endpoint", ["hub:4317", "hub", "ftp://hub:21", "http://"])
def test_an_endpoint_that_is_not_a_url_is_an_error(endpoint: str) -> None:
    with pytest.raises(ValidationError, match="expected a URL such as"):
        read(endpoint=endpoint)


def test_headers_are_secret() -> None:
    config = read(headers={"authorization": "Bearer abc"})
    assert "abc" not in f"{config!r} {config.model_dump_json()}"


def test_settings_survive_being_written_and_read() -> None:
    for config in (read(), read(timeout="3s", scrapers={"disk": {"exclude_devices": ["sr*"]}})):
        assert HostMetricsConfig.model_validate_json(config.model_dump_json()) == config


def test_names_are_selected_by_patterns_and_excluding_wins() -> None:
    assert selected("eth0", ["eth*"], [])
    assert not selected("wlan0", ["eth*"], [])
    assert not selected("eth0", ["*"], ["eth?"])
    assert not selected("eth0", [], [])
