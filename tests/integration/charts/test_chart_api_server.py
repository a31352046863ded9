"""A real API server takes both charts, and its controllers make pods that admission lets in.

By default a control plane of its own, without nodes. `OBSHUB_TEST_KUBECONFIG` names one that is only asked what it
thinks of each manifest. `OBSHUB_TEST_CRDS` is a folder with the kinds that operators bring.
"""

from __future__ import annotations

import base64
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.extensions.tokens.token_file import TokenFile
from tests.support import charts
from tests.support.charts import CHARTS, MATRIX, documents, rendered
from tests.support.control_plane import Cluster, control_plane, definitions, missing
from tests.support.kubernetes import CUSTOM, is_custom

OWN = os.environ.get("OBSHUB_TEST_KUBECONFIG")
CRDS = os.environ.get("OBSHUB_TEST_CRDS")
OBS_HUB = str(Path(sys.executable).parent / "obs-hub")
INSTANCE = {"app.kubernetes.io/instance": "obs-hub"}


@pytest.fixture(scope="module")
def plane() -> Iterator[Cluster]:
    """A control plane that this test may do with what it wants."""
    lacking = missing()
    if lacking is not None:
        pytest.skip(lacking)
    with tempfile.TemporaryDirectory(prefix="obs-hub-kubernetes-") as folder, control_plane(Path(folder)) as cluster:
        definitions(cluster, Path(CRDS) if CRDS else None)
        yield cluster


@pytest.fixture(scope="module")
def asked(request: pytest.FixtureRequest) -> Cluster:
    """An API that is asked, and in which nothing is made."""
    if charts.HELM is None:
        pytest.skip(charts.NO_HELM)
    if OWN is not None:
        return Cluster(Path(OWN), Path(tempfile.gettempdir()))
    plane: Cluster = request.getfixturevalue("plane")
    plane.namespace("asked")
    return plane


@pytest.mark.parametrize("case", MATRIX)
def test_the_api_server_would_take_every_manifest(case: str, asked: Cluster) -> None:
    known = asked.kubectl("api-versions").split()
    every = [each for each in rendered(case) if not is_custom(each) or each["apiVersion"] in known]
    left_out = {each["kind"] for each in rendered(case) if each not in every}
    namespace = "default" if OWN else "asked"
    said = asked.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "--server-side", "--namespace", namespace, "-f", "-",
        stdin=yaml.safe_dump_all([_in(each, namespace) for each in every]),
    )  # fmt: skip
    assert len(said.splitlines()) == len(every)
    if left_out:
        pytest.skip(f"OBSHUB_TEST_CRDS names no definitions of {', '.join(sorted(left_out))}")


def _in(manifest: dict[str, Any], namespace: str) -> dict[str, Any]:
    """Put a manifest into another namespace, where it says one."""
    if "namespace" in manifest["metadata"]:
        return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}
    return manifest


def test_every_kind_that_an_operator_brings_is_in_the_matrix() -> None:
    if charts.HELM is None:
        pytest.skip(charts.NO_HELM)
    found = {(each["apiVersion"], each["kind"]) for case in MATRIX for each in rendered(case) if is_custom(each)}
    assert found == {(version, kind) for version, kinds in CUSTOM.items() for kind in kinds}


def install(plane: Cluster, chart: str, namespace: str, *options: str) -> None:
    """Install a chart, with its hooks, as helm does where there are nodes."""
    with plane.finishing_jobs():
        plane.run(
            "helm", "upgrade", "--install", "obs-hub", str(CHARTS / chart), "--namespace", namespace, "--timeout", "5m",
            *options,
        )  # fmt: skip


def running(plane: Cluster, namespace: str) -> set[str]:
    """The parts that controllers have made pods of, jobs left out."""
    pods = plane.get("pods", namespace)
    return {
        pod["metadata"]["labels"]["app.kubernetes.io/name"]
        for pod in pods
        if {owner["kind"] for owner in pod["metadata"].get("ownerReferences", [])} != {"Job"}
    }


ALL = {"gateway", "postgres", "loki", "grafana", "alloy", "kube-state-metrics"}


def test_all_of_the_hub_but_the_journal_passes_the_strictest_standard(plane: Cluster) -> None:
    namespace = plane.namespace("restricted", "restricted")
    loki = ["--values", str(CHARTS / "hub/values-loki.yaml")]
    install(plane, "hub", namespace, *loki, "--set", "alloy.journal.enabled=false")
    plane.until(lambda: running(plane, namespace) == ALL)
    claims = {
        "data-obs-hub-0",
        "data-obs-hub-postgres-0",
        "data-obs-hub-loki-0",
        "obs-hub-grafana",
        "obs-hub-postgres-backup",
    }
    plane.until(lambda: plane.names("persistentvolumeclaims", namespace) == claims)
    assert plane.names("cronjobs", namespace) == {"obs-hub-postgres-backup"}
    plane.run("helm", "uninstall", "obs-hub", "--namespace", namespace)


@pytest.mark.parametrize(("standard", "let_in"), [("privileged", True), ("baseline", False)])
def test_the_journal_wants_a_namespace_that_lets_folders_of_nodes_be_mounted(
    plane: Cluster, standard: str, let_in: bool
) -> None:
    namespace = plane.namespace(f"journal-{standard}", standard)
    alone = ",".join(f"{part}.enabled=false" for part in ("gateway", "postgres", "grafana", "kubeStateMetrics"))
    install(plane, "hub", namespace, "--set", alone)
    if let_in:
        plane.until(lambda: running(plane, namespace) == {"alloy"})
    else:
        refusals = plane.until(
            lambda: [e["message"] for e in plane.get("events", namespace) if e["reason"] == "FailedCreate"]
        )
        assert any("hostPath" in each and "obs-hub-alloy" in each for each in refusals)
    plane.run("helm", "uninstall", "obs-hub", "--namespace", namespace)


def test_the_gateway_alone_with_everything_passes_the_strictest_standard(plane: Cluster) -> None:
    if not CRDS:
        pytest.skip("OBSHUB_TEST_CRDS names no definitions of HTTPRoute and GRPCRoute")
    namespace = plane.namespace("everything", "restricted")
    plane.apply(
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 9}
    )
    install(plane, "gateway", namespace, "--set", charts.EVERYTHING)
    (scaled,) = plane.get("horizontalpodautoscalers", namespace)
    assert scaled["spec"]["maxReplicas"] == 6
    plane.until(lambda: running(plane, namespace) == {"gateway"})
    assert plane.names("jobs", namespace) >= {"obs-hub-gateway-drain-2", "obs-hub-gateway-drain-3"}
    plane.run("helm", "uninstall", "obs-hub", "--namespace", namespace)


def secret(plane: Cluster, namespace: str, name: str, key: str) -> str:
    (found,) = [each for each in plane.get("secrets", namespace) if each["metadata"]["name"] == name]
    return base64.b64decode(found["data"][key]).decode()


def make(plane: Cluster, *words: str, check: bool = True) -> str:
    """Run what `make k3s-...` runs."""
    done = plane.run(str(CHARTS / "k3s.sh"), *words, check=check, NAMESPACE="k3s", OBS_HUB=OBS_HUB)
    return done.stdout + done.stderr


def migrates(plane: Cluster) -> str:
    """When the release that is installed has migrated the store."""
    said = plane.run("helm", "get", "hooks", "obs-hub", "--namespace", "k3s").stdout
    (job,) = [
        each for each in documents(said) if (each["kind"], each["metadata"]["name"]) == ("Job", "obs-hub-migrate")
    ]
    hook: str = job["metadata"]["annotations"]["helm.sh/hook"]
    return hook


def test_make_brings_up_one_part_after_the_other_keeps_passwords_and_data_and_takes_it_away(
    plane: Cluster, tmp_path: Path
) -> None:
    plane.namespace("k3s")
    assert "make k3s-postgres-up" in make(plane, "up", "gateway", check=False)
    with plane.finishing_jobs():
        make(plane, "up", "postgres")
        plane.until(lambda: running(plane, "k3s") == {"postgres"})
        password = secret(plane, "k3s", "obs-hub-store", "password")
        make(plane, "up", "gateway")
        assert migrates(plane) == "post-install,post-upgrade"
        for part in ("grafana", "loki", "alloy"):
            make(plane, "up", part)
        assert migrates(plane) == "pre-upgrade"
        plane.until(lambda: running(plane, "k3s") == ALL)
        assert secret(plane, "k3s", "obs-hub-store", "password") == password

        made = plane.run(str(CHARTS / "k3s.sh"), "token", "nas", NAMESPACE="k3s", OBS_HUB=OBS_HUB)
        token = made.stdout.strip()
        make(plane, "up")
        kept = tmp_path / "tokens.json"
        kept.write_text(secret(plane, "k3s", "obs-hub-tokens", "tokens.json"))
        alloy = secret(plane, "k3s", "obs-hub-ingest", "OBSHUB_TOKEN")
        for told, known in zip((alloy, token), TokenFile(kept).read(), strict=True):
            assert told.split("_")[1] == known.id
            assert known.matches(told.split("_")[2])

    services = {each["metadata"]["name"]: each["spec"] for each in plane.get("services", "k3s")}
    assert [port["nodePort"] for port in services["obs-hub-grafana"]["ports"]] == [30000]
    status = make(plane, "status")
    for expected in (
        "pod/obs-hub-0",
        "service/obs-hub-grafana",
        "persistentvolumeclaim/data-obs-hub-0",
        "http://NODE:30000/",
    ):
        assert expected in status

    claims = plane.names("persistentvolumeclaims", "k3s")
    make(plane, "down")
    assert plane.names("persistentvolumeclaims", "k3s") == claims
    with plane.finishing_jobs():
        make(plane, "up", "postgres")
    assert secret(plane, "k3s", "obs-hub-store", "password") == password
    assert "make k3s-down DATA=delete" in make(plane, "down")
    plane.run(str(CHARTS / "k3s.sh"), "down", NAMESPACE="k3s", DATA="delete")
    # Claims that a pod still had go with it.
    plane.until(lambda: not plane.names("persistentvolumeclaims", "k3s"))
    assert not [each for each in plane.get("secrets", "k3s", **INSTANCE) if each["type"] != "helm.sh/release.v1"]


def test_a_role_of_a_chart_is_of_one_namespace(plane: Cluster) -> None:
    """Two hubs in one cluster do not share the roles that are not of a namespace."""
    for namespace in ("one", "two"):
        plane.namespace(namespace)
        install(plane, "hub", namespace, "--set", "gateway.enabled=false,postgres.enabled=false,grafana.enabled=false")
    roles = {name for name in plane.names("clusterroles", "one") if name.startswith("obs-hub-alloy")}
    assert {"obs-hub-alloy-one", "obs-hub-alloy-two"} <= roles
    for namespace in ("one", "two"):
        plane.run("helm", "uninstall", "obs-hub", "--namespace", namespace)
