"""A Kubernetes control plane without nodes: etcd, the API server and the controllers, on loopback.

It takes manifests as any cluster does, and its controllers make pods of them, which admission lets in or not. Nothing
runs: what a node would do for a job, `Cluster.finishing_jobs` pretends to have done.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tests.integration.cli.processes import free_port
from tests.support import certificates
from tests.support.waiting import PATIENCE

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "helm")
_TOKEN = "a-token-of-this-test-alone"
_T = TypeVar("_T")


def missing() -> str | None:
    """Say which program of a control plane is not on PATH; None when all are there."""
    found = next((name for name in PROGRAMS if shutil.which(name) is None), None)
    return found and f"there is no {found} on PATH"


class Cluster:
    """A Kubernetes API, as somebody who may do everything."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self.kubeconfig = kubeconfig
        self.folder = folder

    @property
    def environment(self) -> dict[str, str]:
        """The environment of programs that are to use this cluster, and nothing of the user's own."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "KUBECONFIG": str(self.kubeconfig),
            "HELM_CACHE_HOME": str(self.folder / "helm"),
        }

    def run(
        self, *words: str, stdin: str = "", check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program that uses the cluster."""
        done = subprocess.run(
            words,
            input=stdin,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert not check or done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done

    def kubectl(self, *words: str, stdin: str = "", check: bool = True) -> str:
        """Run kubectl and return what it writes."""
        done = self.run("kubectl", *words, stdin=stdin, check=check)
        return done.stdout + ("" if check else done.stderr)

    def get(self, kind: str, namespace: str = "", **labels: str) -> list[dict[str, Any]]:
        """Return all objects of a kind, in a namespace or in all."""
        where = ["--namespace", namespace] if namespace else ["--all-namespaces"]
        select = ["--selector", ",".join(f"{k}={v}" for k, v in labels.items())] if labels else []
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, *where, *select, "--output", "json"))[
            "items"
        ]
        return found

    def names(self, kind: str, namespace: str) -> set[str]:
        """Return the names of the objects of a kind in a namespace."""
        return {each["metadata"]["name"] for each in self.get(kind, namespace)}

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Make objects, or bring them to what is said."""
        self.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(manifests))

    def namespace(self, name: str, standard: str = "privileged") -> str:
        """Make a namespace that enforces a Pod Security Standard."""
        labels = {"pod-security.kubernetes.io/enforce": standard}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        # Its controller makes the account that pods without one of their own belong to.
        self.until(lambda: "default" in self.names("serviceaccounts", name))
        return name

    def until(self, condition: Callable[[], _T]) -> _T:
        """Wait until something holds."""
        deadline = time.monotonic() + PATIENCE
        while not (result := condition()):
            assert time.monotonic() < deadline, "it did not come true"
            time.sleep(0.2)
        return result

    @contextmanager
    def finishing_jobs(self) -> Iterator[None]:
        """Pretend, for the length of a block, that the pods of jobs have run and succeeded."""
        ended = threading.Event()

        def run() -> None:
            while not ended.wait(0.3):
                for pod in self.get("pods"):
                    owners = {owner["kind"] for owner in pod["metadata"].get("ownerReferences", [])}
                    if "Job" in owners and pod["status"].get("phase") != "Succeeded":
                        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
                        patch = '{"status": {"phase": "Succeeded"}}'
                        self.kubectl(
                            "patch", "pod", name, "--namespace", namespace, "--subresource=status", "--type=merge",
                            "--patch", patch, check=False,
                        )  # fmt: skip

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@contextmanager
def control_plane(folder: Path) -> Iterator[Cluster]:
    """Run a control plane with one node that is only written down, for the length of a block."""
    ports = [free_port() for _ in range(3)]
    client, peer, secure = (f"127.0.0.1:{port}" for port in ports)
    accounts = certificates.make(folder, "accounts")
    (folder / "tokens.csv").write_text(f'{_TOKEN},admin,admin,"system:masters"\n')
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(_kubeconfig(f"https://{secure}")))
    cluster = Cluster(kubeconfig, folder)
    with ExitStack() as stack:
        stack.enter_context(
            _running(
                folder, "etcd", f"--data-dir={folder}/etcd", f"--listen-client-urls=http://{client}",
                f"--advertise-client-urls=http://{client}", f"--listen-peer-urls=http://{peer}",
                f"--initial-advertise-peer-urls=http://{peer}", f"--initial-cluster=default=http://{peer}",
                "--unsafe-no-fsync",
            )
        )  # fmt: skip
        server = stack.enter_context(
            _running(
                folder, "kube-apiserver", f"--etcd-servers=http://{client}", f"--cert-dir={folder}/certificates",
                "--bind-address=127.0.0.1", f"--secure-port={ports[2]}", "--service-cluster-ip-range=10.96.0.0/16",
                "--endpoint-reconciler-type=none", f"--token-auth-file={folder}/tokens.csv",
                "--authorization-mode=RBAC", "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={accounts.cert}", f"--service-account-signing-key-file={accounts.key}",
            )
        )  # fmt: skip

        def ready() -> bool:
            assert server.poll() is None, (folder / "kube-apiserver.log").read_text()[-2000:]
            return cluster.kubectl("get", "--raw", "/readyz", check=False) == "ok"

        cluster.until(ready)
        stack.enter_context(
            _running(
                folder, "kube-controller-manager", f"--kubeconfig={kubeconfig}", "--leader-elect=false",
                "--secure-port=0", f"--service-account-private-key-file={accounts.key}",
            )
        )  # fmt: skip
        cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}})
        yield cluster


@contextmanager
def _running(folder: Path, program: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{program}.log").open("wb") as log:
        process = subprocess.Popen([program, *options], stdout=log, stderr=log, cwd=folder)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _kubeconfig(server: str) -> dict[str, Any]:
    # The server's certificate is one that it makes for itself at each start.
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": server, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "admin", "user": {"token": _TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    }


def definitions(cluster: Cluster, folder: Path | None) -> Sequence[str]:
    """Make the kinds that a folder defines known to a cluster; return the groups of those."""
    if folder is None:
        return []
    found = [each for path in sorted(folder.glob("*.yaml")) for each in yaml.safe_load_all(path.read_text()) if each]
    for each in found:
        cluster.apply(each)
        name = each["metadata"]["name"]
        cluster.kubectl("wait", "--for=condition=Established", f"customresourcedefinition/{name}", "--timeout=60s")
    return [each["spec"]["group"] for each in found]
