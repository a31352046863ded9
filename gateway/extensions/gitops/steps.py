"""The steps of a roll-out: what the configuration says, run for one revision."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from gateway.base.child_environment import GIT, KUBERNETES, SYSTEMD
from gateway.extensions.gitops import units
from gateway.extensions.gitops.config import HelmUpgrade, KubectlApply, Step
from gateway.extensions.gitops.target import Target, all_inside, command, inside, no_links_into_git

_ANY = (*GIT, *KUBERNETES, *SYSTEMD, "HELM_*", "DOCKER_HOST", "DOCKER_CONFIG")
"""What a program gets of this process's variables of which only the configuration knows what it is."""


async def wanted(step: Step, target: Target) -> bool:
    """Tell whether a step has something to do for this revision."""
    paths = [f":(glob){pattern}" for pattern in step.when.changed]
    if not paths or target.good is None:
        return True
    for revision in {target.revision, *target.tried} - {target.good}:
        # What was changed and changed back is no difference, and yet rolled out if the run failed in a later step.
        if await target.git.changed(target.good, revision, paths):
            return True
        if await target.git.touching(target.good, revision, paths):
            return True
    return False


async def perform(step: Step, target: Target, write: Callable[[str], object]) -> None:
    """Run a step; what it writes goes to ``write``, with its secrets masked. Raises `StepError`."""
    await asyncio.to_thread(no_links_into_git, target.git.path, await target.git.folders())
    directory = inside(target.git.path, step.working_directory)
    if step.systemd_units is not None:
        await units.install(step.systemd_units, step.timeout, target, write)
        return
    for path in _pushed_paths(step):
        # kubectl passes over what does not end in .yaml or .json, which nothing in .git does.
        reads_all = step.kubectl_apply is None or step.kubectl_apply.kustomize
        all_inside(target.git.path, f"{step.working_directory}/{path}", reads_all=reads_all)
    inherited: tuple[str, ...]
    if step.helm_upgrade is not None:
        argv, inherited = helm(step.helm_upgrade, step.timeout), (*KUBERNETES, "HELM_*")
    elif step.kubectl_apply is not None:
        argv, inherited = kubectl(step.kubectl_apply), KUBERNETES
    else:
        argv, inherited = step.run or [], _ANY
    given = {name: value.get_secret_value() for name, value in step.env.items()}
    secrets = [*given.values(), *await target.git.credentials()]
    await command(argv, directory, step.timeout, {**target.variables, **given}, write, secrets, inherited)


def _pushed_paths(step: Step) -> list[str]:
    """What a step's program is told to read in the repository, where a pushed link could lead it elsewhere."""
    helm_upgrade, kubectl_apply = step.helm_upgrade, step.kubectl_apply
    if helm_upgrade is not None:
        return [*helm_upgrade.values, *([] if "://" in helm_upgrade.chart else [helm_upgrade.chart])]
    return [] if kubectl_apply is None else [kubectl_apply.path]


def helm(settings: HelmUpgrade, timeout: timedelta) -> list[str]:
    """Return the command line of ``helm upgrade``."""
    argv = ["helm", "upgrade", "--install", "--namespace", settings.namespace]
    if settings.create_namespace:
        argv.append("--create-namespace")
    if settings.kube_context:
        argv += ["--kube-context", settings.kube_context]
    if settings.version:
        argv += ["--version", settings.version]
    for file in settings.values:
        argv += ["--values", file]
    if settings.wait:
        # A little less than the step's, so that helm says itself what is not ready.
        argv += ["--wait", "--timeout", f"{max(int(timeout.total_seconds() * 0.9), 1)}s"]
    return [*argv, "--", settings.release, settings.chart]


def kubectl(settings: KubectlApply) -> list[str]:
    """Return the command line of ``kubectl apply``."""
    argv = ["kubectl", "apply"]
    if settings.kube_context:
        argv += ["--context", settings.kube_context]
    if settings.namespace:
        argv += ["--namespace", settings.namespace]
    if settings.server_side:
        argv.append("--server-side")
    if settings.kustomize:
        return [*argv, "--kustomize", settings.path]
    if settings.recursive:
        argv.append("--recursive")
    return [*argv, "--filename", settings.path]
