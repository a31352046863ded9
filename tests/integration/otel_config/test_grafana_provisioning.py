"""Grafana's provisioning files: their shape, and the queries of the alert rules."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

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


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["uid"])
def test_every_rule_finds_what_it_is_for(store: Database, rule: dict[str, Any]) -> None:
    """The lab has a full disk, a growing spool, refusals and dead letters, but no host that is silent."""
    query, threshold = rule["data"]
    chosen = TimeRange.last(timedelta(seconds=query["relativeTimeRange"]["from"]))
    with store.connect() as connection:
        connection.execute("SET ROLE obs_hub_reader")
        cursor = connection.execute(grafana.expand_sql(query["model"]["rawSql"], chosen).encode())
        assert cursor.description
        columns = [column.name for column in cursor.description]
        rows = cursor.fetchall()

    labels = re.findall(r"\.Labels\.(\w+)", str(rule["annotations"]))
    assert set(labels) <= set(columns)
    assert rows
    for row in rows:
        # To Grafana, text is a label and the one number is the value.
        kinds = [type(value) for value in row]
        assert sorted(kinds, key=str) == [float, *[str] * (len(kinds) - 1)]
    (limit,) = threshold["model"]["conditions"][0]["evaluator"]["params"]
    firing = [row for row in rows if max(value for value in row if isinstance(value, float)) > limit]
    assert bool(firing) == (rule["title"] not in ("Host down", "Gateway silent")), rows


def test_a_host_that_falls_silent_is_down(store: Database) -> None:
    (rule,) = (rule for rule in rules() if rule["title"] == "Host down")
    statement = rule["data"][0]["model"]["rawSql"].replace("now()", "now() + interval '6 minutes'")
    found = store.run(grafana.expand_sql(statement, TimeRange.last(timedelta(days=1))))

    assert "nas" in {host for host, seconds in found if seconds > 300}


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
