"""Every manifest that the charts make: valid for Kubernetes, whole, and with no more rights than it needs.

Where helm is on PATH, all cases of the matrix are rendered; else the renderings in ``golden`` are looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from gateway.extensions.tokens.token_file import TokenFile
from tests.support import charts
from tests.support.charts import Manifest, containers, find, known_cases, manifests, pods
from tests.support.kubernetes import VERSIONS, is_custom, validator

cases = pytest.mark.parametrize("case", known_cases())
FOREIGN_SECRETS = {"obs-hub-loki-s3", "s3", "bao-ca", "more", "obs-hub-tls", "nas"}
"""What the values of a case name and whoever installs has made before."""


@pytest.mark.parametrize("version", VERSIONS)
@cases
def test_kubernetes_takes_every_manifest(case: str, version: str) -> None:
    for each in manifests(case):
        if is_custom(each):
            continue
        errors = [
            f"{'/'.join(map(str, error.instance_path))}: {error.message}"
            for error in validator(version, each).iter_errors(each)
        ]
        assert not errors, (each["kind"], each["metadata"]["name"], errors)


def test_a_manifest_with_a_mistake_is_not_taken() -> None:
    wrong = json.loads(json.dumps(find(manifests("gateway"), "StatefulSet", "obs-hub-gateway")))
    wrong["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    assert not validator("1.30", wrong).is_valid(wrong)


@cases
def test_no_two_manifests_have_one_name(case: str) -> None:
    names = [(each["apiVersion"].partition("/")[0], each["kind"], each["metadata"]["name"]) for each in manifests(case)]
    assert len(set(names)) == len(names)
    for _, _, name in names:
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name), name


# -- Whole: what is referred to is there -------------------------------------------------------------------------------


def _all(kind: str, every: tuple[Manifest, ...]) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each for each in every if each["kind"] == kind}


def _keys(every: tuple[Manifest, ...], kind: str) -> dict[str, set[str]]:
    return {name: {*each.get("data", {}), *each.get("stringData", {})} for name, each in _all(kind, every).items()}


def _references(pod: Manifest) -> Iterator[tuple[str, str, str | None]]:
    """Yield the ConfigMaps, Secrets and claims that a pod needs: kind, name, key."""
    for volume in pod["spec"].get("volumes", []):
        for source in (volume, *volume.get("projected", {}).get("sources", [])):
            if "configMap" in source:
                yield "ConfigMap", source["configMap"]["name"], None
            if "secret" in source:
                yield "Secret", source["secret"]["secretName"], None
            if "persistentVolumeClaim" in source:
                yield "PersistentVolumeClaim", source["persistentVolumeClaim"]["claimName"], None
    for container in containers(pod):
        for variable in container.get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield "Secret", reference["name"], reference["key"]
        for source in container.get("envFrom", []):
            yield "Secret", source["secretRef"]["name"], None


DOCUMENTED = {
    "obs-hub-postgres": {"username", "password"},
    "obs-hub-store": {"username", "password", "dsn"},
    "obs-hub-reader": {"url", "database", "user", "password", "sslmode"},
    "obs-hub-grafana": {"admin-user", "admin-password"},
    "obs-hub-tokens": {"tokens.json"},
    "obs-hub-ingest": {"OBSHUB_TOKEN"},
}
"""The Secrets that charts/hub/values.yaml tells to make where `secrets.create` is false."""


@cases
def test_what_a_pod_needs_is_there_or_to_be_made_by_who_installs(case: str) -> None:
    every = manifests(case)
    there = {kind: _keys(every, kind) for kind in ("ConfigMap", "Secret", "PersistentVolumeClaim")}
    for what, pod in pods(every):
        for kind, name, key in _references(pod):
            if kind == "PersistentVolumeClaim":
                drained = re.fullmatch(r"data-obs-hub-gateway-\d+", name)
                assert name in there[kind] or name in FOREIGN_SECRETS or drained, (what, name)
            elif name in there[kind]:
                assert key is None or key in there[kind][name], (what, name, key)
            else:
                assert kind == "Secret", (what, name)
                assert name in FOREIGN_SECRETS or name in DOCUMENTED, (what, name)
                assert key is None or key in DOCUMENTED[name], (what, name, key)


def test_the_secrets_that_are_made_are_those_that_are_documented() -> None:
    made = _keys(manifests("hub"), "Secret")
    assert made == DOCUMENTED
    text = (charts.CHARTS / "hub/values.yaml").read_text("utf-8")
    for name, keys in DOCUMENTED.items():
        (line,) = re.findall(rf"^#   {name} +(.+)$", text, re.MULTILINE)
        assert set(re.split(r", *| {2,}", line)) >= keys


@cases
def test_mounts_have_volumes_and_volumes_have_mounts(case: str) -> None:
    every = manifests(case)
    for what, pod in pods(every):
        kind, name = what.split("/")
        claims = find(every, kind, name)["spec"].get("volumeClaimTemplates", [])
        volumes = {each["name"] for each in pod["spec"].get("volumes", [])} | {c["metadata"]["name"] for c in claims}
        mounted = {mount["name"] for container in containers(pod) for mount in container.get("volumeMounts", [])}
        assert mounted == volumes, what
        for container in containers(pod):
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            assert len(set(paths)) == len(paths), what


def _selected(every: tuple[Manifest, ...], labels: dict[str, str]) -> list[Manifest]:
    return [pod for _, pod in pods(every) if labels.items() <= pod["metadata"].get("labels", {}).items()]


@cases
def test_what_selects_pods_selects_some(case: str) -> None:
    every = manifests(case)
    for each in every:
        spec, what = each.get("spec", {}), (each["kind"], each["metadata"]["name"])
        match each["kind"]:
            case "Service":
                found = _selected(every, spec["selector"])
                assert found, what
                ports = {port["name"] for pod in found for container in containers(pod) for port in container["ports"]}
                assert {port["targetPort"] for port in spec["ports"]} <= ports, what
            case "PodDisruptionBudget" | "StatefulSet" | "Deployment" | "DaemonSet":
                assert _selected(every, spec["selector"]["matchLabels"]), what
            case "NetworkPolicy":
                assert _selected(every, spec["podSelector"]["matchLabels"]), what
            case "HorizontalPodAutoscaler":
                target = spec["scaleTargetRef"]
                scaled = find(every, target["kind"], target["name"])
                assert "replicas" not in scaled["spec"], "helm and the autoscaler would set it by turns"
            case "ServiceMonitor":
                services = [
                    other
                    for other in _all("Service", every).values()
                    if spec["selector"]["matchLabels"].items() <= other["metadata"]["labels"].items()
                ]
                ports = {port["name"] for other in services for port in other["spec"]["ports"]}
                assert {endpoint["port"] for endpoint in spec["endpoints"]} <= ports, what


@cases
def test_selectors_of_one_part_select_no_pods_of_another(case: str) -> None:
    every = manifests(case)
    for each in every:
        if each["kind"] in ("StatefulSet", "Deployment", "DaemonSet", "Service"):
            selector = each["spec"]["selector"]
            found = _selected(every, selector.get("matchLabels", selector))
            assert len(found) == 1, each["metadata"]["name"]


@cases
def test_probes_ask_ports_that_are_there(case: str) -> None:
    for what, pod in pods(manifests(case)):
        for container in containers(pod):
            named = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                for way in ("httpGet", "tcpSocket"):
                    port = container.get(probe, {}).get(way, {}).get("port")
                    known = isinstance(port, int) or port in named
                    assert port is None or known, (what, probe)


@cases
def test_whatever_serves_is_watched(case: str) -> None:
    for what, pod in pods(manifests(case)):
        if what.startswith(("StatefulSet", "Deployment", "DaemonSet")):
            assert all("readinessProbe" in container for container in containers(pod)), what


@cases
def test_accounts_are_there(case: str) -> None:
    every = manifests(case)
    accounts = _all("ServiceAccount", every)
    for what, pod in pods(every):
        name = pod["spec"].get("serviceAccountName", "default")
        assert name in accounts or name == "default", what
    for binding in _all("ClusterRoleBinding", every).values():
        assert binding["roleRef"]["name"] in _all("ClusterRole", every)
        assert {subject["name"] for subject in binding["subjects"]} <= set(accounts)


# -- Policies ----------------------------------------------------------------------------------------------------------


@cases
def test_images_are_pinned(case: str) -> None:
    images = [container["image"] for _, pod in pods(manifests(case)) for container in containers(pod)]
    images += [each["spec"]["imageName"] for each in _all("Cluster", manifests(case)).values()]
    for image in images:
        assert re.search(r"(:v?\d[\w.-]*|:pg\d[\w.-]*|@sha256:[0-9a-f]{64})$", image), image
        assert not image.endswith("latest")


@cases
def test_every_container_has_requests_and_limits(case: str) -> None:
    for what, pod in pods(manifests(case)):
        for container in containers(pod):
            for kind in ("requests", "limits"):
                assert set(container["resources"][kind]) >= {"cpu", "memory"}, (what, kind)


@cases
def test_pods_are_as_locked_in_as_pod_security_wants_it(case: str) -> None:
    """The standard `restricted`, and a root file system that is read only, but for what is named with its reason."""
    for what, pod in pods(manifests(case)):
        spec, context = pod["spec"], pod["spec"]["securityContext"]
        journal = what == "DaemonSet/obs-hub-alloy" and any("hostPath" in volume for volume in spec["volumes"])
        for never in ("hostNetwork", "hostPID", "hostIPC"):
            assert not spec.get(never), what
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, what
        root = context.get("runAsUser") == 0
        assert context.get("runAsNonRoot") is True or (journal and root), what
        assert context.get("runAsNonRoot") is not root
        for container in containers(pod):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, what
            assert own["capabilities"] == {"drop": ["ALL"]}, what
            assert not own.get("privileged"), what
            # The entry point of PostgreSQL's image writes beside its data.
            assert own["readOnlyRootFilesystem"] is (what != "StatefulSet/obs-hub-postgres"), what
            assert not any("hostPort" in port for port in container.get("ports", [])), what


@cases
def test_of_a_node_alloy_alone_sees_the_journal_and_nothing_else(case: str) -> None:
    for what, pod in pods(manifests(case)):
        paths = {v["name"]: v["hostPath"]["path"] for v in pod["spec"].get("volumes", []) if "hostPath" in v}
        if what != "DaemonSet/obs-hub-alloy":
            assert not paths, what
            continue
        assert set(paths.values()) <= {
            "/var/log/journal",
            "/run/log/journal",
            "/etc/machine-id",
            "/var/lib/obs-hub-alloy",
        }
        for container in containers(pod):
            for mount in container["volumeMounts"]:
                if paths.get(mount["name"], "").startswith(("/var/log", "/run", "/etc")):
                    assert mount["readOnly"], mount


@cases
def test_who_asks_kubernetes_nothing_has_no_token_for_it(case: str) -> None:
    asking = {"DaemonSet/obs-hub-alloy", "Deployment/obs-hub-kube-state-metrics"}
    for what, pod in pods(manifests(case)):
        assert pod["spec"]["automountServiceAccountToken"] is (what in asking), what


@cases
def test_roles_look_and_change_nothing(case: str) -> None:
    for role in _all("ClusterRole", manifests(case)).values():
        for rule in role["rules"]:
            assert set(rule["verbs"]) <= {"get", "list", "watch"}
            assert not {"secrets", "configmaps", "*"} & set(rule["resources"])
            assert "*" not in rule["apiGroups"]


@cases
def test_secrets_reach_who_needs_them_and_nobody_else(case: str) -> None:
    """The superuser's password and the users' tokens are not the gateway's, Grafana's or Alloy's business."""
    allowed = {
        "obs-hub-postgres": {
            "StatefulSet/obs-hub-postgres",
            "Job/obs-hub-postgres-reader",
            "CronJob/obs-hub-postgres-backup",
        },
        "obs-hub-grafana": {"Deployment/obs-hub-grafana"},
        "obs-hub-ingest": {"DaemonSet/obs-hub-alloy"},
        "obs-hub-reader": {"Deployment/obs-hub-grafana", "Job/obs-hub-postgres-reader"},
    }
    for what, pod in pods(manifests(case)):
        for kind, name, _ in _references(pod):
            assert kind != "Secret" or what in allowed.get(name, {what}), (what, name)


@cases
def test_passwords_are_in_no_argument_and_no_configmap(case: str) -> None:
    every = manifests(case)
    held = {
        value
        for each in _all("Secret", every).values()
        for key, value in charts.secret(each).items()
        if "password" in key or key == "OBSHUB_TOKEN"
    }
    for each in every:
        if each["kind"] != "Secret":
            text = json.dumps(each)
            assert not any(f'"{value}"' in text or f":{value}@" in text for value in held), each["metadata"]["name"]


@cases
def test_data_and_passwords_outlive_the_release(case: str) -> None:
    for each in manifests(case):
        if each["kind"] in ("PersistentVolumeClaim", "Secret", "Cluster"):
            assert each["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep", each["metadata"]["name"]
        if each["kind"] == "StatefulSet":
            assert set(each["spec"]["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}


def test_tokens_are_what_the_gateway_reads(tmp_path: Any) -> None:
    if charts.HELM is None:
        pytest.skip(charts.NO_HELM)
    every = charts.rendered("hub")
    (tmp_path / "tokens.json").write_text(charts.secret(find(every, "Secret", "obs-hub-tokens"))["tokens.json"])
    (kept,) = TokenFile(tmp_path / "tokens.json").read()
    _, identity, secret = charts.secret(find(every, "Secret", "obs-hub-ingest"))["OBSHUB_TOKEN"].split("_")
    assert (kept.id, sorted(kept.scopes)) == (identity, ["ingest"])
    assert kept.matches(secret)


def test_hooks_wait_for_what_they_need() -> None:
    """Nothing of a first installation waits for a database that comes with it. That an upgrade migrates first is seen
    where there is a cluster to ask: tests/integration/charts."""
    job = find(manifests("gateway"), "Job", "obs-hub-gateway-migrate")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"
    config = find(manifests("gateway"), "ConfigMap", "obs-hub-gateway-migrate")
    weights = [int(each["metadata"]["annotations"].get("helm.sh/hook-weight", "0")) for each in (config, job)]
    assert weights[0] < weights[1]
    gateway = find(manifests("gateway"), "ConfigMap", "obs-hub-gateway")
    assert config["data"] == gateway["data"]


def test_a_nodeport_profile_has_grafana_on_30000() -> None:
    ports = find(manifests("hub-medium"), "Service", "obs-hub-grafana")["spec"]["ports"]
    assert [port["nodePort"] for port in ports] == [30000]


def test_the_charts_are_of_the_latest_release() -> None:
    """Before the first there is none to compare with: both charts then only have to agree."""
    about = [yaml.safe_load((charts.CHARTS / chart / "Chart.yaml").read_text()) for chart in ("gateway", "hub")]
    releases = re.findall(r"^## \[(\d[^]]*)\]", (charts.ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert {each["appVersion"] for each in about} == set(releases[:1] or [about[0]["appVersion"]])
    (dependency,) = about[1]["dependencies"]
    assert dependency["version"] == about[0]["version"]


# -- What the documentation says ---------------------------------------------------------------------------------------


def _quantity(text: Any) -> float:
    match = re.fullmatch(r"([\d.]+)(m|Ki|Mi|Gi|Ti)?", str(text))
    assert match is not None, text
    return float(match[1]) * {"m": 0.001, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}.get(match[2], 1)


def _asked_for(every: tuple[Manifest, ...]) -> tuple[float, float, float]:
    """Return the cores, bytes of memory and bytes of disk that everything that runs all the time asks for."""
    autoscalers = _all("HorizontalPodAutoscaler", every)
    scaled = {name: each["spec"]["minReplicas"] for name, each in autoscalers.items()}
    cores = memory = disk = 0.0
    for each in every:
        spec = each.get("spec", {})
        requests: list[Manifest] = []
        claims: list[str] = []
        count = 1
        match each["kind"]:
            case "StatefulSet" | "Deployment" | "DaemonSet":
                count = spec.get("replicas", scaled.get(each["metadata"]["name"], 1))
                requests = [container["resources"]["requests"] for container in containers(spec["template"])]
                claims = [c["spec"]["resources"]["requests"]["storage"] for c in spec.get("volumeClaimTemplates", [])]
            case "PersistentVolumeClaim":
                claims = [spec["resources"]["requests"]["storage"]]
            case "Cluster":
                count, requests, claims = spec["instances"], [spec["resources"]["requests"]], [spec["storage"]["size"]]
        cores += count * sum(_quantity(each["cpu"]) for each in requests)
        memory += count * sum(_quantity(each["memory"]) for each in requests)
        disk += count * sum(map(_quantity, claims))
    return cores, memory, disk


@pytest.mark.parametrize(("case", "row"), [("hub", "none"), ("hub-medium", "`medium`"), ("hub-large", "`large`")])
def test_the_documentation_says_what_a_profile_asks_for(case: str, row: str) -> None:
    cores, memory, disk = _asked_for(manifests(case))
    said = f"{cores:.1f} cores, {memory / 2**30:.1f} GiB, {disk / 2**30:.0f} GiB of disk"
    text = (charts.ROOT / "docs/kubernetes.md").read_text("utf-8")
    assert re.search(rf"^\| {row} \|.*\| {re.escape(said)} \|$", text, re.MULTILINE), said
