"""Grafana's provisioning files: their shape, and the queries of the alert rules."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.otel_config import lab
from tests.integration.otel_config.conftest import Loki
from tests.support import grafana
from tests.support.databases import Database
from tests.support.grafana import DASHBOARDS, GRAFANA, TimeRange
from tests.support.waiting import PATIENCE

PROVISIONING = GRAFANA / "provisioning"
FILES = sorted(PROVISIONING.rglob("*.yaml"))

# The keys that Grafana's file provisioning knows; it ignores others without a word.
DATA_SOURCE = {
    "name", "uid", "type", "access", "isDefault", "editable", "url", "user", "jsonData", "secureJsonData",
    "correlations", "orgId", "version", "basicAuth", "basicAuthUser", "withCredentials", "database",
}  # fmt: skip
CORRELATION = {"targetUID", "label", "description", "type", "config"}
PROVIDER = {
    "name", "orgId", "folder", "type", "disableDeletion", "allowUiUpdates", "updateIntervalSeconds",
    "options",
}  # fmt: skip
GROUP = {"orgId", "name", "folder", "interval", "rules"}
RULE = {
    "uid", "title", "condition", "data", "for", "noDataState", "execErrState", "labels", "annotations", "dashboardUid",
    "panelId", "isPaused",
}  # fmt: skip
QUERY = {"refId", "queryType", "relativeTimeRange", "datasourceUid", "model"}


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    assert document["apiVersion"] == 1
    return document


def data_sources() -> dict[str, dict[str, Any]]:
    return {
        source["uid"]: source
        for path in (PROVISIONING / "datasources").glob("*.yaml")
        for source in read(path)["datasources"]
    }


def rules() -> list[dict[str, Any]]:
    groups = read(PROVISIONING / "alerting/obs-hub.yaml")["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_the_files_have_the_keys_that_grafana_knows() -> None:
    for source in data_sources().values():
        assert set(source) <= DATA_SOURCE
        for correlation in source.get("correlations", ()):
            assert set(correlation) <= CORRELATION
            assert set(correlation["config"]) == {"field", "target"}
    for provider in read(PROVISIONING / "dashboards/obs-hub.yaml")["providers"]:
        assert set(provider) <= PROVIDER
    for group in read(PROVISIONING / "alerting/obs-hub.yaml")["groups"]:
        assert set(group) == GROUP
        for rule in group["rules"]:
            assert set(rule) <= RULE
            for query in rule["data"]:
                assert set(query) <= QUERY
                assert query["model"]["refId"] == query["refId"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PROVISIONING).as_posix())
def test_variables_of_the_environment_are_explained_and_nothing_secret_is_written_down(path: Path) -> None:
    text = path.read_text("utf-8")
    head = text[: text.index("apiVersion")]

    # A single dollar sign is a variable of the environment, except where Grafana leaves it alone: in queries of rules.
    values = re.sub(r"rawSql: \|\n(?: {16}.*\n)+", "", text.replace("$$", ""))
    for name in re.findall(r"^[^#\n]*\$\{?(\w+)", values, re.MULTILINE):
        assert name in head, f"{name} is not explained"
    for line in text.splitlines():
        assert not re.search(r"(password|token|secret)\s*:\s*[^$\s]", line, re.IGNORECASE), line


def test_everything_that_is_referred_to_is_there() -> None:
    known = set(data_sources())
    named = {uid for path in DASHBOARDS for uid in re.findall(r'"uid": "([\w-]+)"', path.read_text("utf-8"))}
    dashboards = {grafana.load(path)["uid"] for path in DASHBOARDS}

    assert named <= known | dashboards
    for path in FILES:
        text = path.read_text("utf-8")
        assert set(re.findall(r"(?:targetUID|datasourceUid): ([\w-]+)", text)) <= known | {"__expr__"}
        assert set(re.findall(r" /d/([\w-]+)/", text)) <= dashboards
    # A file that needs another one would keep Grafana from starting where only one is copied.
    obs_hub = {source["uid"] for source in read(PROVISIONING / "datasources/obs-hub.yaml")["datasources"]}
    for source in read(PROVISIONING / "datasources/obs-hub.yaml")["datasources"]:
        assert {correlation["targetUID"] for correlation in source.get("correlations", ())} <= obs_hub


def test_dashboards_and_rules_are_in_one_folder() -> None:
    (provider,) = read(PROVISIONING / "dashboards/obs-hub.yaml")["providers"]
    groups = read(PROVISIONING / "alerting/obs-hub.yaml")["groups"]

    assert {group["folder"] for group in groups} == {provider["folder"]}
    assert "folderUid" not in provider  # Grafana makes the folder of rules first, by its name, with a uid of its own


def test_rules_are_complete() -> None:
    every = rules()

    assert {rule["title"] for rule in every} >= {"Host down", "Disk filling", "Gateway refusing", "Spool growing"}
    assert len({rule["uid"] for rule in every}) == len(every)
    for rule in every:
        query, threshold = rule["data"]
        assert rule["condition"] == threshold["refId"]
        assert threshold["model"]["expression"] == query["refId"]
        assert rule["noDataState"] in ("Alerting", "NoData", "OK", "KeepLast")
        assert rule["execErrState"] in ("Alerting", "Error", "OK", "KeepLast")
        assert {"summary", "description", "runbook"} == set(rule["annotations"])


def evaluate(database: Database, rule: dict[str, Any], at: str = "now()") -> str | set[tuple[str, ...]]:
    """Evaluate a rule as Grafana does: return what it makes of no data, or the labels of what fires."""
    query, threshold = rule["data"]
    chosen = TimeRange.last(timedelta(seconds=query["relativeTimeRange"]["from"]))
    text = grafana.expand_sql(query["model"]["rawSql"].replace("now()", at), chosen)
    with database.connect() as connection:
        connection.execute("SET ROLE obs_hub_reader")
        cursor = connection.execute(text.encode())
        assert cursor.description
        columns = [column.name for column in cursor.description]
        rows = cursor.fetchall()
    assert set(re.findall(r"\.Labels\.(\w+)", str(rule["annotations"]))) <= set(columns)
    if not rows:
        return str(rule["noDataState"])
    for row in rows:
        # To Grafana, text is a label and the one number is the value.
        kinds = [type(value) for value in row]
        assert sorted(kinds, key=str) == [float, *[str] * (len(kinds) - 1)], f"{rule['title']}: {row}"
    (limit,) = threshold["model"]["conditions"][0]["evaluator"]["params"]
    return {
        tuple(value for value in row if isinstance(value, str))
        for row in rows
        if max(value for value in row if isinstance(value, float)) > limit
    }


by_title = {rule["title"]: rule for rule in rules()}
every_rule = pytest.mark.parametrize("title", by_title)


@every_rule
def test_every_rule_finds_what_it_is_for(store: Database, title: str) -> None:
    """The lab has a full disk, a growing spool, refusals and dead letters, but no host that is silent."""
    firing = evaluate(store, by_title[title])

    assert isinstance(firing, set)
    assert bool(firing) == (title not in ("Host down", "Gateway silent")), firing


_SILENT = {
    "Host down": {("nas",)},
    "Disk filling": "KeepLast",
    "Gateway silent": "Alerting",
    "Gateway refusing": "OK",
    "Spool growing": "OK",
    "Dead letters": "OK",
}
_NEVER = {**_SILENT, "Host down": "OK"}


@every_rule
def test_every_rule_in_a_store_with_nothing_for_two_hours(silent: Database, title: str) -> None:
    """What fires then goes on firing: silence is not mended by lasting longer than a rule looks back."""
    assert evaluate(silent, by_title[title]) == _SILENT[title]


@every_rule
def test_every_rule_in_a_store_that_never_had_anything(empty: Database, title: str) -> None:
    assert evaluate(empty, by_title[title]) == _NEVER[title]


def test_a_gateway_that_falls_silent_is_told_at_once(store: Database) -> None:
    firing = evaluate(store, by_title["Gateway silent"], "now() + interval '6 minutes'")

    assert firing == {()}


def test_a_host_that_falls_silent_is_down(store: Database) -> None:
    firing = evaluate(store, by_title["Host down"], "now() + interval '6 minutes'")

    assert ("nas",) in firing


def test_correlations_of_the_store_find_the_spans_and_lines_of_a_trace(store: Database) -> None:
    """Explore shows these links beside each value of a column with the name."""
    found = 0
    for correlation in data_sources()["obs-hub"]["correlations"]:
        target = correlation["config"]["target"]
        if "rawSql" in target:
            field = correlation["config"]["field"]
            assert correlation["targetUID"] == "obs-hub"
            assert store.run(target["rawSql"].replace(f"$${{{field}}}", lab.TRACE)), correlation["label"]
            assert store.run(f"SELECT {field} FROM logs LIMIT 1")
            found += 1
    assert found == 2


def test_correlations_of_loki_find_the_lines_of_a_trace(loki: Loki) -> None:
    """Loki keeps the trace id beside the line, under the name that the derived field matches."""
    import json
    import urllib.parse
    import urllib.request

    (field,) = data_sources()["obs-hub-loki"]["jsonData"]["derivedFields"]
    query = urllib.parse.urlencode({"query": '{service_name="backup"} | host_name="nas"', "since": "3h"})
    with urllib.request.urlopen(f"{loki.url}/loki/api/v1/query_range?{query}", timeout=PATIENCE) as response:
        (stream, *_) = json.load(response)["data"]["result"]
    assert field["matcherType"] == "label"
    assert field["matcherRegex"] in stream["stream"]
