"""Rendering the charts: what is refused, what is the same as elsewhere, and what has changed since."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import charts
from tests.support.charts import CASES, CHARTS, HELM, MATRIX, NO_HELM, ROOT, find, helm, rendered, template
from tests.support.kubernetes import VERSIONS, is_custom, name_of_schema, write_schemas

needs_helm = pytest.mark.skipif(HELM is None, reason=NO_HELM)
CONFIG = ROOT / "otel-config"


@needs_helm
@pytest.mark.parametrize("case", CASES)
def test_what_is_rendered_is_what_was_looked_at(case: str) -> None:
    made = charts.normalized(template(case))
    assert made == (charts.GOLDEN / f"{case}.yaml").read_text("utf-8"), (
        "look at the difference, then: python -m tests.support.charts"
    )


@needs_helm
@pytest.mark.parametrize("chart", ["gateway", "hub"])
def test_helm_has_nothing_to_say(chart: str) -> None:
    said = helm("lint", "--strict", chart).stdout
    assert not re.search(r"\[(WARNING|ERROR)\]", said), said


@needs_helm
def test_kubeconform_agrees(tmp_path: Path) -> None:
    kubeconform = shutil.which("kubeconform")
    if kubeconform is None:
        pytest.skip("there is no kubeconform on PATH")
    standard = [each for case in MATRIX for each in rendered(case) if not is_custom(each)]
    write_schemas(VERSIONS[-1], set(map(name_of_schema, standard)), tmp_path)
    done = subprocess.run(
        [kubeconform, "-strict", "-schema-location", f"{tmp_path}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json", "-"],
        input="\n---\n".join(map(json.dumps, standard)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


# -- The same as elsewhere ---------------------------------------------------------------------------------------------

LINKS = {
    "hub/charts/gateway": CHARTS / "gateway",
    "hub/files/alloy": CONFIG / "alloy",
    "hub/files/dashboards": CONFIG / "grafana/dashboards",
    "hub/files/loki": CONFIG / "loki",
    "hub/files/provisioning": CONFIG / "grafana/provisioning",
}


def test_what_the_chart_takes_from_otel_config_is_linked_and_not_copied() -> None:
    found = {path.relative_to(CHARTS).as_posix(): path for path in CHARTS.rglob("*") if path.is_symlink()}
    assert {name: path.resolve() for name, path in found.items()} == LINKS
    for path in found.values():
        assert not path.readlink().is_absolute()


@needs_helm
def test_dashboards_alerts_and_data_sources_are_those_of_otel_config() -> None:
    every = rendered("hub-homelab")
    for path in (CONFIG / "grafana/dashboards").glob("*.json"):
        held = find(every, "ConfigMap", f"obs-hub-dashboard-{path.stem}")["data"]
        assert held == {path.name: path.read_text("utf-8")}
    provisioned = find(every, "ConfigMap", "obs-hub-grafana-provisioning")["data"]
    for kind in ("alerting", "dashboards", "datasources"):
        source = (CONFIG / "grafana/provisioning" / kind / "obs-hub.yaml").read_text("utf-8")
        assert provisioned[f"{kind}.yaml"].strip() == source.strip()
    alloy = find(every, "ConfigMap", "obs-hub-alloy")["data"]
    for name, text in alloy.items():
        assert text.strip() == (CONFIG / "alloy" / name).read_text("utf-8").strip()


@needs_helm
def test_grafana_finds_every_dashboard_where_the_provider_looks() -> None:
    every = rendered("hub")
    provider = yaml.safe_load((CONFIG / "grafana/provisioning/dashboards/obs-hub.yaml").read_text())["providers"][0]
    spec = find(every, "Deployment", "obs-hub-grafana")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volume = mounted[provider["options"]["path"]]
    sources = next(each for each in spec["volumes"] if each["name"] == volume)["projected"]["sources"]
    maps = [find(every, "ConfigMap", source["configMap"]["name"])["data"] for source in sources]
    names = {path.name for path in (CONFIG / "grafana/dashboards").glob("*.json")}
    assert {key for data in maps for key in data} == names
    home = next(each["value"] for each in container["env"] if each["name"].endswith("HOME_DASHBOARD_PATH"))
    assert Path(home).name in names


@needs_helm
def test_without_loki_grafana_is_told_of_none() -> None:
    source = yaml.safe_load((CONFIG / "grafana/provisioning/datasources/obs-hub.yaml").read_text())
    held = find(rendered("hub"), "ConfigMap", "obs-hub-grafana-provisioning")["data"]["datasources.yaml"]
    assert "obs-hub-loki" not in held
    (store,) = yaml.safe_load(held)["datasources"]
    (original, _) = source["datasources"]
    kept = [each for each in original["correlations"] if each["targetUID"] == "obs-hub"]
    assert store == {**original, "correlations": kept}
    assert kept


@needs_helm
def test_every_variable_that_data_sources_and_alloy_read_is_set() -> None:
    every = rendered("hub-homelab")
    grafana = find(every, "Deployment", "obs-hub-grafana")["spec"]["template"]["spec"]["containers"][0]
    read = set(
        re.findall(r"(?<!\$)\$(OBSHUB_\w+)", (CONFIG / "grafana/provisioning/datasources/obs-hub.yaml").read_text())
    )
    assert read
    assert read <= {each["name"] for each in grafana["env"]}
    alloy = find(every, "DaemonSet", "obs-hub-alloy")["spec"]["template"]["spec"]["containers"][0]
    text = "".join((CONFIG / "alloy" / name).read_text() for name in ("kubernetes.alloy", "kubernetes-journal.alloy"))
    of_alloy = set(re.findall(r'sys\.env\("(\w+)"\)', text))
    # The gateway's certificate is one that the system knows, or there is none.
    assert of_alloy - {each["name"] for each in alloy["env"]} == {"OBSHUB_CA_FILE"}


@needs_helm
@pytest.mark.parametrize("case", ["hub-homelab", "hub-medium", "hub-large", "hub-loki-on-object-storage"])
def test_loki_is_configured_as_in_otel_config_but_for_where_it_listens_and_stores(case: str) -> None:
    source = yaml.safe_load((CONFIG / "loki/config.yaml").read_text())
    held = yaml.safe_load(find(rendered(case), "ConfigMap", "obs-hub-loki")["data"]["config.yaml"])
    changed = {path for path, value in _leaves(held) if dict(_leaves(source)).get(path) != value}
    gone = {path for path, _ in _leaves(source)} - {path for path, _ in _leaves(held)}
    stored = case in ("hub-large", "hub-loki-on-object-storage")
    allowed = {"server.http_listen_address", "server.grpc_listen_address", "limits_config.retention_period"}
    if stored:
        allowed |= {"schema_config.configs.0.object_store", "compactor.delete_request_store"}
    if case == "hub-large":
        allowed |= {"common.replication_factor", "common.ring.kvstore.store", "memberlist.join_members.0"}
    assert {path for path in changed if not path.startswith("common.storage.s3.")} <= allowed
    assert all(path.startswith(("common.storage.filesystem.", "common.instance_addr")) for path in gone)
    assert bool(gone) is stored
    if stored:
        s3 = held["common"]["storage"]["s3"]
        assert (s3["access_key_id"], s3["secret_access_key"]) == ("${AWS_ACCESS_KEY_ID}", "${AWS_SECRET_ACCESS_KEY}")


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        yield path, value
        return
    for key, each in inner:
        yield from _leaves(each, f"{path}.{key}".lstrip("."))


# -- What may not be said ----------------------------------------------------------------------------------------------

REFUSED = [
    ("gateway", "replcias=2", "replcias"),
    ("gateway", "image.tag=latest", "image/tag"),
    ("gateway", "replicas=two", "replicas"),
    ("gateway", "resources.limits.cpu=null", "resources/limits"),
    ("gateway", "service.type=External", "service/type"),
    ("gateway", "config.service=null", "config"),
    ("gateway", "replicas=2", "tokens.secret"),
    ("gateway", "replicas=2,tokens.secret=a,config.exporters.timescale.dsn=null", "config.exporters.timescale.dsn"),
    ("gateway", "autoscaling.enabled=true,tokens.secret=a,persistence.enabled=false", "persistence.enabled"),
    ("gateway", "ingress.enabled=true", "ingress.hosts"),
    ("gateway", "gatewayApi.enabled=true", "gatewayApi.parentRefs"),
    ("hub", "loki.enabled=true", "values-loki.yaml"),
    ("hub", "gateway.fullnameOverride=mine", "gateway.fullnameOverride"),
    ("hub", "gateway.replcias=2", "replcias"),
    ("hub", "postgres.settings.shared_buffers=512", "shared_buffers"),
    ("hub", "grafana.image.tag=latest", "grafana/image/tag"),
    ("hub", "grafana.service.nodePort=999999", "nodePort"),
    ("hub", "loki.enabled=true,loki.replicas=3,gateway.enabled=false", "loki.objectStorage"),
    ("hub", "postgres.cloudnativepg.enabled=true,postgres.cloudnativepg.instances=1", "synchronousStandbys"),
    ("hub", "grafana.ingress.enabled=true", "grafana.ingress.host"),
]


@needs_helm
@pytest.mark.parametrize(("chart", "values", "named"), REFUSED)
def test_what_cannot_work_is_refused_and_the_value_named(chart: str, values: str, named: str) -> None:
    done = helm("template", "obs-hub", chart, "--set", values, check=False)
    assert done.returncode != 0
    assert named in done.stderr


@pytest.mark.parametrize("chart", ["gateway", "hub"])
def test_the_schema_knows_every_value_and_no_other(chart: str) -> None:
    values = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    schema = json.loads((CHARTS / chart / "values.schema.json").read_text())
    # Of Helm's own: whether it is part of another chart, and what all charts share.
    of_helm = {"global", "enabled"} if chart == "gateway" else {"global"}
    _compare(values, {**schema, "properties": {k: v for k, v in schema["properties"].items() if k not in of_helm}}, "")


def _compare(values: dict[str, Any], schema: dict[str, Any], path: str) -> None:
    if schema.get("additionalProperties") is not False:
        return
    assert set(values) == set(schema["properties"]), path
    for key, value in values.items():
        if isinstance(value, dict) and "properties" in schema["properties"][key]:
            _compare(value, schema["properties"][key], f"{path}.{key}")


@needs_helm
def test_a_package_has_what_the_links_lead_to(tmp_path: Path) -> None:
    helm("package", "hub", "--destination", str(tmp_path))
    (archive,) = tmp_path.glob("hub-*.tgz")
    packed = helm("template", "obs-hub", str(archive), "--namespace", "observability").stdout
    assert charts.normalized(packed) == (charts.GOLDEN / "hub.yaml").read_text("utf-8")
