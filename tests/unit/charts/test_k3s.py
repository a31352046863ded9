"""``make k3s-...``, with a kubectl and a helm that only note what they are asked for."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.extensions.tokens.token_file import TokenFile

ROOT = Path(__file__).parents[3]
PARTS = ("postgres", "loki", "grafana", "alloy", "gateway")
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")

KUBECTL = """#!/bin/sh
echo "kubectl $*" >> "$NOTES"
case "$*" in
version) exit ${UNREACHABLE:-0} ;;
*"get secret obs-hub-store"*) exit ${NO_STORE:-0} ;;
*"get secret obs-hub-tokens"*) cat "$TOKENS" ;;
*patch*) for last; do :; done; echo "$last" > "$PATCH" ;;
esac
"""
HELM = """#!/bin/sh
echo "helm $*" >> "$NOTES"
case "$*" in status*) exit ${NOT_INSTALLED:-0} ;; esac
"""


class Cluster:
    """What stands in for a cluster: programs on PATH that write down what they were told."""

    def __init__(self, folder: Path) -> None:
        self.notes, self.patch, self.tokens = folder / "notes", folder / "patch", folder / "tokens.json"
        self.tokens.write_text('{"version": 1, "tokens": []}')
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name, text in (("kubectl", KUBECTL), ("helm", HELM)):
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)

    def make(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self._run("make", *words, **variables)

    def script(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self._run("charts/k3s.sh", *words, **variables)

    def _run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        self.notes.write_text("")
        return subprocess.run(
            words,
            cwd=ROOT,
            env={
                "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin",
                "NOTES": str(self.notes),
                "PATCH": str(self.patch),
                "TOKENS": str(self.tokens),
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def helm(self) -> str:
        """The one thing that helm was told to do."""
        (line,) = [line for line in self.notes.read_text().splitlines() if line.startswith("helm upgrade")]
        return line


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def test_up_installs_everything_as_a_homelab(cluster: Cluster) -> None:
    done = cluster.make("k3s-up", NOT_INSTALLED="1")
    assert done.returncode == 0, done.stderr
    assert "--namespace observability --create-namespace" in cluster.helm
    assert f"--values {ROOT}/charts/hub/values-homelab.yaml" in cluster.helm
    assert ".enabled=" not in cluster.helm


def test_profiles_values_and_the_image_are_handed_on(cluster: Cluster) -> None:
    done = cluster.make(
        "k3s-up", "PROFILE=medium homelab", "VALUES=mine.yaml", "IMAGE=registry.example.com/tools/obs-hub:2.0"
    )
    assert done.returncode == 0, done.stderr
    order = [cluster.helm.index(name) for name in ("values-medium.yaml", "values-homelab.yaml", "mine.yaml")]
    assert order == sorted(order)
    assert "gateway.image.registry=registry.example.com/tools" in cluster.helm
    assert "gateway.image.repository=obs-hub --set-string gateway.image.tag=2.0" in cluster.helm


@pytest.mark.parametrize("part", PARTS)
def test_a_part_comes_alone_the_first_time_and_beside_the_others_later(cluster: Cluster, part: str) -> None:
    done = cluster.make(f"k3s-{part}-up", NOT_INSTALLED="1")
    assert done.returncode == 0, done.stderr
    for other in PARTS:
        assert f"{other}.enabled={str(other == part).lower()}" in cluster.helm
    assert cluster.make(f"k3s-{part}-up").returncode == 0
    assert "--reset-then-reuse-values" in cluster.helm
    assert f"{part}.enabled=true" in cluster.helm
    assert "=false" not in cluster.helm
    assert ("values-loki.yaml" in cluster.helm) == (part == "loki")


@pytest.mark.parametrize("part", ["gateway", "grafana"])
def test_what_needs_a_store_says_so_instead_of_waiting_for_one(cluster: Cluster, part: str) -> None:
    done = cluster.make(f"k3s-{part}-up", NO_STORE="1")
    assert done.returncode != 0
    assert "make k3s-postgres-up" in done.stderr
    assert "helm upgrade" not in cluster.notes.read_text()


def test_without_a_cluster_it_says_how_one_is_reached(cluster: Cluster) -> None:
    for target in ("k3s-up", "k3s-status", "k3s-down"):
        done = cluster.make(target, UNREACHABLE="1")
        assert done.returncode != 0
        assert "KUBECONFIG=/etc/rancher/k3s/k3s.yaml" in done.stderr
        assert "helm" not in cluster.notes.read_text()


def test_down_keeps_data_unless_it_is_told_not_to(cluster: Cluster) -> None:
    done = cluster.make("k3s-down")
    assert done.returncode == 0, done.stderr
    assert "helm uninstall obs-hub --namespace observability" in cluster.notes.read_text()
    assert "delete" not in cluster.notes.read_text()
    assert "DATA=delete" in done.stderr
    done = cluster.make("k3s-down", "DATA=delete", "NAMESPACE=mine", "RELEASE=other", NOT_INSTALLED="1")
    assert done.returncode == 0, done.stderr
    selector = "--selector app.kubernetes.io/instance=other"
    assert (
        f"--namespace mine delete clusters.postgresql.cnpg.io,persistentvolumeclaims,secrets {selector}"
        in cluster.notes.read_text()
    )
    assert "uninstall" not in cluster.notes.read_text()


def test_status_tells_what_runs_and_where(cluster: Cluster) -> None:
    done = cluster.make("k3s-status")
    assert done.returncode == 0, done.stderr
    assert "get pods,services,persistentvolumeclaims,jobs" in cluster.notes.read_text()
    assert "helm get notes obs-hub" in cluster.notes.read_text()
    assert "make k3s-up" in cluster.make("k3s-status", NOT_INSTALLED="1").stderr


def test_a_token_is_added_to_those_that_the_cluster_has(cluster: Cluster, tmp_path: Path) -> None:
    program = tmp_path / "obs-hub"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m gateway "$@"\n')
    program.chmod(0o755)
    done = cluster.script("token", "nas", "ingest", OBS_HUB=str(program), PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    _, identity, secret = done.stdout.strip().split("_")
    patched = base64.b64decode(json.loads(cluster.patch.read_text())["data"]["tokens.json"])
    (tmp_path / "patched.json").write_bytes(patched)
    (token,) = TokenFile(tmp_path / "patched.json").read()
    assert (token.id, token.name) == (identity, "nas")
    assert token.matches(secret)


@pytest.mark.parametrize(
    ("words", "variables", "said"),
    [
        (["up", "grafna"], {}, "there is no part grafna"),
        (["up"], {"PROFILE": "huge"}, "there is no profile huge"),
        (["up"], {"IMAGE": "obs-hub"}, "IMAGE names no tag"),
        (["token"], {}, "a name for the token"),
        (["bring", "up"], {}, "charts/k3s.sh up"),
        ([], {}, "charts/k3s.sh up"),
    ],
)
def test_mistakes_are_told(cluster: Cluster, words: list[str], variables: dict[str, str], said: str) -> None:
    done = cluster.script(*words, **variables)
    assert done.returncode != 0
    assert said in done.stderr
    assert "helm upgrade" not in cluster.notes.read_text()


def test_every_profile_that_is_spoken_of_is_there() -> None:
    profiles = {path.stem.removeprefix("values-") for path in (ROOT / "charts/hub").glob("values-*.yaml")}
    assert profiles == {"homelab", "small", "medium", "large", "loki"}
