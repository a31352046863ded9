"""The command lines of steps: what is set is said, and nothing else."""

from __future__ import annotations

from datetime import timedelta

from gateway.extensions.gitops.config import HelmUpgrade, KubectlApply
from gateway.extensions.gitops.steps import helm, kubectl


def test_helm_is_told_what_is_set() -> None:
    settings = HelmUpgrade(
        release="web",
        chart="oci://registry.example.com/charts/web",
        namespace="shop",
        create_namespace=True,
        version="1.2.3",
        values=["values.yaml", "nas.yaml"],
        kube_context="k3s",
    )
    assert " ".join(helm(settings, timedelta(minutes=10))) == (
        "helm upgrade --install --namespace shop --create-namespace --kube-context k3s --version 1.2.3 "
        "--values values.yaml --values nas.yaml --wait --timeout 540s -- web oci://registry.example.com/charts/web"
    )


def test_helm_waits_only_when_it_is_to() -> None:
    settings = HelmUpgrade(release="web", chart="charts/web", wait=False)
    said = " ".join(helm(settings, timedelta(minutes=10)))
    assert said == "helm upgrade --install --namespace default -- web charts/web"


def test_kubectl_is_told_what_is_set() -> None:
    settings = KubectlApply(path="manifests", kube_context="k3s", namespace="shop")
    assert " ".join(kubectl(settings)) == (
        "kubectl apply --context k3s --namespace shop --server-side --recursive --filename manifests"
    )
    settings = KubectlApply(path="manifests", recursive=False, server_side=False)
    assert " ".join(kubectl(settings)) == "kubectl apply --filename manifests"
