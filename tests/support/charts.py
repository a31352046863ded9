"""The Helm charts, rendered: by helm where it is on PATH, and as they were rendered when they last changed.

The renderings in ``tests/unit/charts/golden`` are made anew by ``python -m tests.support.charts``, which needs helm.
What is long and comes from ``otel-config/`` is left out of them, and so is what is made up anew each time.
"""

from __future__ import annotations

import base64
import functools
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHARTS = ROOT / "charts"
GOLDEN = ROOT / "tests/unit/charts/golden"
HELM = shutil.which("helm")
NO_HELM = "there is no helm on PATH"

Manifest = dict[str, Any]

_S3 = "loki.objectStorage.endpoint=s3.example.com,loki.objectStorage.bucket=logs,loki.objectStorage.secret=s3"
EVERYTHING = (
    "autoscaling.enabled=true,tokens.secret=obs-hub-tokens,openbao.address=https://bao.example.com:8200,"
    "openbao.caSecret=bao-ca,openbao.audience=bao,openbao.namespace=team,drain.ordinals={2,3},workers=2,"
    "ingress.enabled=true,ingress.className=traefik,ingress.hosts[0].host=hub.example.com,"
    "ingress.hosts[0].paths[0].path=/v1,ingress.hosts[0].paths[0].port=http,"
    "ingress.hosts[0].paths[1].path=/,ingress.hosts[0].paths[1].port=front,"
    "gatewayApi.enabled=true,gatewayApi.parentRefs[0].name=public,gatewayApi.hostnames={hub.example.com},"
    "networkPolicy.egress[0].ports[0].port=5432,networkPolicy.telemetryFrom[0].namespaceSelector.matchLabels.a=b,"
    "networkPolicy.frontFrom[0].podSelector.matchLabels.a=b,image.registry=registry.example.com,"
    "image.pullSecrets[0].name=registry,service.type=NodePort,service.nodePorts.grpc=30317,"
    "persistence.storageClass=fast,priorityClassName=high,envFrom[0].secretRef.name=more,secrets.tls=obs-hub-tls"
)
"""Every part of the gateway's chart that is off by default."""

CASES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "gateway": ("gateway", ()),
    "gateway-everything": ("gateway", ("--set", EVERYTHING)),
    "hub": ("hub", ()),
    "hub-medium": ("hub", ("-f", "values-medium.yaml", "-f", "values-homelab.yaml")),
    "hub-large": ("hub", ("-f", "values-large.yaml")),
}
"""What is rendered into a file, by its name: the chart, and options of helm."""

MATRIX: Mapping[str, tuple[str, tuple[str, ...]]] = {
    **CASES,
    "gateway-embedded": ("gateway", ("--set", "config.exporters.timescale.dsn=null,secrets.store=null")),
    "gateway-bare": (
        "gateway",
        (
            "--set",
            "persistence.enabled=false,networkPolicy.enabled=false,podDisruptionBudget.enabled=false,"
            "migrations.enabled=false,serviceAccount.create=false,config.extensions.api=null,"
            "config.receivers.otlp.protocols.http=null,config.service.extensions={tokens}",
        ),
    ),
    "gateway-http-alone": (
        "gateway",
        ("--set", "config.receivers.otlp.protocols.grpc=null,config.extensions.api.tls.cert_file=/a"),
    ),
    "hub-small": ("hub", ("-f", "values-small.yaml")),
    "hub-homelab": ("hub", ("-f", "values-homelab.yaml", "-f", "values-loki.yaml", "--set", "postgres.postgis=true")),
    "hub-bare": (
        "hub",
        (
            "--set",
            "secrets.create=false,networkPolicies.enabled=false,kubeStateMetrics.enabled=false,"
            "alloy.journal.enabled=false,postgres.backup.enabled=false",
        ),
    ),
    "hub-parts": (
        "hub",
        (
            "--set",
            "serviceMonitors.enabled=true,alloy.journal.group=190,grafana.ingress.enabled=true,"
            "grafana.ingress.host=grafana.example.com,grafana.rootUrl=https://grafana.example.com,"
            "imagePullSecrets[0].name=registry,postgres.backup.persistence.existingClaim=nas,"
            "nodeSelector.disk=ssd,tolerations[0].key=dedicated,grafana.env.GF_USERS_ALLOW_SIGN_UP=false",
            "--set-string",
            "grafana.env.GF_USERS_ALLOW_SIGN_UP=false",
        ),
    ),
    "hub-loki-on-object-storage": (
        "hub",
        ("-f", "values-loki.yaml", "--set", f"loki.objectStorage.enabled=true,{_S3}"),
    ),
    "hub-cloudnativepg": (
        "hub",
        (
            "--set",
            "postgres.cloudnativepg.enabled=true,postgres.postgis=true,postgres.cloudnativepg.barmanObjectName=s3,"
            "postgres.persistence.storageClass=fast",
        ),
    ),
    "hub-without-a-store": ("hub", ("--set", "postgres.enabled=false")),
    **{
        f"hub-{part}-alone": (
            "hub",
            (
                "--set",
                ",".join(
                    f"{each}.enabled={str(each == part).lower()}"
                    for each in ("gateway", "postgres", "loki", "grafana", "alloy")
                ),
            ),
        )
        for part in ("gateway", "postgres", "loki", "grafana", "alloy")
    },
}
"""All that is rendered where there is helm."""


def helm(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run helm in the folder of the charts."""
    assert HELM is not None, NO_HELM
    # One that was built by `go install` may think of a Kubernetes that the charts do not take.
    version = ["--kube-version", "v1.36.0"] if arguments[0] == "template" else []
    done = subprocess.run([HELM, *arguments, *version], cwd=CHARTS, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"helm {' '.join(arguments)}\n{done.stderr}")
    return done


def template(case: str, *more: str) -> str:
    """Return what helm makes of a case of the matrix, as text."""
    chart, options = MATRIX[case]
    return helm("template", "obs-hub", chart, "--namespace", "observability", *_placed(chart, options), *more).stdout


@functools.cache
def rendered(case: str) -> tuple[Manifest, ...]:
    """Return the manifests that helm makes of a case."""
    return tuple(documents(template(case)))


@functools.cache
def golden(case: str) -> tuple[Manifest, ...]:
    """Return the manifests of a case as they were when the charts last changed."""
    return tuple(documents((GOLDEN / f"{case}.yaml").read_text("utf-8")))


def known_cases() -> list[str]:
    """The cases whose manifests can be had here."""
    return list(MATRIX if HELM else CASES)


def manifests(case: str) -> tuple[Manifest, ...]:
    """Return the manifests of a known case."""
    return rendered(case) if HELM else golden(case)


def documents(text: str) -> Iterator[Manifest]:
    """Yield the documents of a text in YAML that hold anything."""
    yield from filter(None, yaml.load_all(text, Loader=yaml.CSafeLoader))


def find(every: tuple[Manifest, ...], kind: str, name: str) -> Manifest:
    """Return the one manifest of a kind and a name."""
    (found,) = [each for each in every if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def pod_template(manifest: Manifest) -> Manifest | None:
    """Return the template of the pods that a manifest makes, or the pod that it is; None when it makes none."""
    spec = manifest.get("spec", {})
    match manifest["kind"]:
        case "Pod":
            return manifest
        case "CronJob":
            found: Manifest = spec["jobTemplate"]["spec"]["template"]
        case "Deployment" | "StatefulSet" | "DaemonSet" | "Job":
            found = spec["template"]
        case _:
            return None
    return found


def pods(every: tuple[Manifest, ...]) -> Iterator[tuple[str, Manifest]]:
    """Yield the templates of all pods, each with what it is called."""
    for each in every:
        if (found := pod_template(each)) is not None:
            yield f"{each['kind']}/{each['metadata']['name']}", found


def containers(pod: Manifest) -> list[Manifest]:
    """Return all containers of a pod."""
    spec = pod["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def secret(manifest: Manifest) -> dict[str, str]:
    """Return what a Secret holds."""
    given = {key: base64.b64decode(value).decode() for key, value in manifest.get("data", {}).items()}
    return {**given, **manifest.get("stringData", {})}


def normalized(text: str) -> str:
    """Return a rendering for people to read: without what is long and from elsewhere, or made up anew each time."""
    parts = []
    for each in documents(text):
        if each["kind"] == "Secret":
            each["stringData"] = {key: _without_chance(value) for key, value in each["stringData"].items()}
        if each["kind"] == "ConfigMap":
            each["data"] = {key: _shortened(key, value) for key, value in each["data"].items()}
        annotations = (pod_template(each) or {}).get("metadata", {}).get("annotations", {})
        annotations.update({key: "a digest" for key in annotations if key.startswith("checksum/")})
        parts.append(yaml.dump(each, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True))
    return "---\n".join(parts)


_LONG = re.compile(r".+\.(json|alloy)|(alerting|dashboards|datasources)\.yaml")


def _shortened(key: str, value: str) -> str:
    return "as in otel-config" if _LONG.fullmatch(key) else value


def _without_chance(value: str) -> str:
    value = re.sub(r"obshub_[0-9a-f]{12}_[0-9a-f]{64}", "a token", value)
    value = re.sub(r"\b[0-9a-f]{64}\b", "a digest", value)
    value = re.sub(r"(?<=\"id\":\")[0-9a-f]{12}", "an id", value)
    value = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "a time", value)
    return re.sub(r"\b[0-9A-Za-z]{24}\b|\b[0-9A-Za-z]{40}\b", "a password", value)


def _placed(chart: str, options: tuple[str, ...]) -> list[str]:
    return [
        f"{chart}/{each}" if before == "-f" else each for before, each in zip(("", *options), options, strict=False)
    ]


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such, and what has no inner mapping on one line."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


def _mapping(dumper: yaml.SafeDumper, value: dict[str, Any]) -> yaml.MappingNode:
    flat = not any(isinstance(each, dict | list) or "\n" in str(each) for each in value.values())
    return dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=flat)


def _sequence(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.SequenceNode:
    flat = not any(isinstance(each, dict | list) or "\n" in str(each) for each in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=flat)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(dict, _mapping)
_Dumper.add_representer(list, _sequence)
_Dumper.ignore_aliases = lambda *_: True  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in CASES:
        (GOLDEN / f"{name}.yaml").write_text(normalized(template(name)), "utf-8")
