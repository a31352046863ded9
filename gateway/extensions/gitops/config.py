"""The settings of the extension ``gitops``."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from gateway.base.settings import ByteSize, Duration, Settings

_REF = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_./+=#@-]*[A-Za-z0-9_+=#-])?")
_GITHUB = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNIT_PATTERN = re.compile(r"[A-Za-z0-9:_.\\@-]{2,}\*|[A-Za-z0-9:_.\\@-]+\.[a-z]+")
_KUBERNETES = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def _ref(value: str) -> str:
    parts = value.split("/")
    if not _REF.fullmatch(value) or ".." in value or not all(parts) or any(part.endswith(".lock") for part in parts):
        raise ValueError("expected a name that git allows, such as main or release/1.x")
    return value


def _github(value: str) -> str:
    if not _GITHUB.fullmatch(value):
        raise ValueError("expected OWNER/REPOSITORY as GitHub shows it")
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("expected a name of letters, digits, '_', '.' and '-', at most 63")
    return value


def _variable(value: str) -> str:
    if not _VARIABLE.fullmatch(value):
        raise ValueError("expected a name of an environment variable")
    return value


def _inside(value: str) -> str:
    path = PurePosixPath(value)
    if (
        path.is_absolute()
        or ".." in path.parts
        or any(part.casefold() == ".git" for part in path.parts)
        or not value
        or value.startswith("-")
    ):
        raise ValueError("expected a path inside the repository, such as charts/web")
    return value


def _word(value: str) -> str:
    if not value or value.startswith("-"):
        raise ValueError("expected a value that does not begin with '-'")
    return value


def _unit_pattern(value: str) -> str:
    if not _UNIT_PATTERN.fullmatch(value):
        raise ValueError("expected a unit such as web.service, or the beginning of some such as home-*")
    return value


def _kubernetes(value: str) -> str:
    if not _KUBERNETES.fullmatch(value):
        raise ValueError("expected lower-case letters, digits and '-', as Kubernetes names things")
    return value


Ref = Annotated[str, AfterValidator(_ref)]
InsidePath = Annotated[str, AfterValidator(_inside)]
KubernetesName = Annotated[str, AfterValidator(_kubernetes)]


class When(Settings):
    """When a step is run at all."""

    changed: list[Annotated[str, AfterValidator(_word)]] = Field(default_factory=list)
    """Patterns such as ``charts/**``: only when a file that matches one was changed since the last good revision, be it
    changed back. Empty: always."""


class HelmUpgrade(Settings):
    """``helm upgrade --install``, waiting until it is rolled out."""

    release: KubernetesName
    """The release's name."""
    chart: Annotated[str, AfterValidator(_word)]
    """A chart's directory in the repository, or a reference such as ``oci://registry.example.com/charts/web``."""
    namespace: KubernetesName = "default"
    """Its namespace."""
    create_namespace: bool = False
    """Make the namespace where it is missing."""
    version: Annotated[str, AfterValidator(_word)] | None = None
    """The version of a chart that is not in the repository."""
    values: list[InsidePath] = Field(default_factory=list)
    """Files of values, in the repository; later ones win."""
    kube_context: Annotated[str, AfterValidator(_word)] | None = None
    """The context of the kubeconfig."""
    wait: bool = True
    """Wait until everything is ready, within the step's timeout."""


class KubectlApply(Settings):
    """``kubectl apply`` of manifests."""

    path: InsidePath
    """A file or directory in the repository."""
    kustomize: bool = False
    """The directory is a kustomization."""
    recursive: bool = True
    """Directories inside it, too."""
    namespace: KubernetesName | None = None
    """The namespace of what names none."""
    server_side: bool = True
    """Let the server merge, which tells who else manages a field."""
    kube_context: Annotated[str, AfterValidator(_word)] | None = None
    """The context of the kubeconfig."""


class SystemdUnits(Settings):
    """Installs the units of a directory, reloads systemd, and restarts those that changed and run.

    A unit that somebody changed on this machine is not overwritten: the step fails and says so. One that was installed
    from the directory and is not in it any more is stopped, disabled and removed.
    """

    source: InsidePath
    """The directory in the repository. Its unit files are taken, but no links, and no directories inside it."""
    units: list[Annotated[str, AfterValidator(_unit_pattern)]] = Field(min_length=1)
    """The units that may be installed: names such as ``web.service``, or beginnings such as ``home-*``. With any other
    in the directory the step fails, so that nobody who may push can replace ``sshd.service``."""
    target: Path = Path("/etc/systemd/system")
    """Where they go."""
    restart: Literal["changed", "none"] = "changed"
    """``changed``: units whose file changed are restarted if they run, and those that go are stopped and disabled.
    ``none``: nothing is."""
    user: bool = False
    """Units of this user's own systemd; then set ``target``, too."""


class Step(Settings):
    """One step of a roll-out: exactly one of ``run``, ``helm_upgrade``, ``kubectl_apply`` and ``systemd_units``."""

    name: Annotated[str, AfterValidator(_name)] | None = None
    """What it is called in histories and traces. ``null``: after what it does."""
    run: list[str] | None = Field(default=None, min_length=1)
    """A program and its arguments. No shell stands between: where one is wanted, it is ``[sh, -c, …]``."""
    helm_upgrade: HelmUpgrade | None = None
    kubectl_apply: KubectlApply | None = None
    systemd_units: SystemdUnits | None = None
    timeout: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(minutes=10)
    """After how long it is ended, with all processes it has started."""
    env: dict[Annotated[str, AfterValidator(_variable)], SecretStr] = Field(default_factory=dict)
    """Environment variables besides the usual ones. Their values are masked in the output."""
    working_directory: InsidePath = "."
    """Where it runs, inside the repository."""
    when: When = When()
    rollback: bool = False
    """When it fails, return to the last good revision and run all steps for that one."""

    @model_validator(mode="after")
    def _one_action(self) -> Step:
        if sum(action is not None for action in (self.run, *self._prepared)) != 1:
            raise ValueError("expected exactly one of run, helm_upgrade, kubectl_apply and systemd_units in a step")
        return self

    @property
    def _prepared(self) -> tuple[Settings | None, ...]:
        return (self.helm_upgrade, self.kubectl_apply, self.systemd_units)

    @property
    def title(self) -> str:
        """The step's name, or one made from what it does."""
        if self.name is not None:
            return self.name
        if self.helm_upgrade is not None:
            return f"helm-{self.helm_upgrade.release}"
        if self.kubectl_apply is not None:
            return "kubectl-apply"
        return "systemd-units" if self.systemd_units is not None else Path((self.run or ["step"])[0]).name


class Repository(Settings):
    """A clone on this machine that follows its remote, and what to do with each new revision."""

    path: Path
    """The clone, an absolute path. It has to belong to the user that the hub runs as."""
    url: Annotated[str, AfterValidator(_word)] | None = None
    """Where the remote has to lead. With it, a clone that is missing is made. ``null``: the clone's own setting."""
    remote: Ref = "origin"
    """The remote that is followed."""
    branch: Ref = "main"
    """The branch that is followed, there and here."""
    github: Annotated[str, AfterValidator(_github)] | None = None
    """``OWNER/REPOSITORY`` at GitHub, whose webhooks ask for a run. ``null``: none do."""
    steps: list[Step] = Field(default_factory=list)
    """What rolls a revision out, in order. They stop at the first that fails."""
    require_signed: bool = False
    """Roll out only a revision whose commit has a good signature."""
    allowed_signers: Path | None = None
    """SSH keys that may sign, in the format of ssh-keygen(1). Then only SSH signatures count.

    ``null``: whatever ``git verify-commit`` accepts for this user, such as any key in the GPG keyring.
    """
    ssh_key: Path | None = None
    """A private key, such as a deploy key, for remotes over SSH. ``null``: whatever this user's ssh offers."""
    fetch_timeout: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(minutes=2)
    """How long a clone, a fetch or the fetching of submodules may take; a checkout, whose filters may fetch (Git LFS),
    two minutes at least."""
    submodules: bool = False
    """Update submodules with each revision. Their addresses come from the repository: allow it only where those who
    push are trusted with that."""
    allow_untracked: bool = False
    """Untracked files do not make the tree dirty. They are left alone in any case."""
    prune_branches: bool = False
    """Remove other local branches that are merged into the branch, after each new revision."""
    interval: Annotated[Duration, Field(ge=timedelta(seconds=5))] | None = timedelta(minutes=5)
    """How often to look for new revisions and for drift besides, varied by a tenth. ``null``: never."""

    @model_validator(mode="after")
    def _complete(self) -> Repository:
        if not self.path.is_absolute():
            raise ValueError(f"expected an absolute path of the clone, found {self.path}")
        if self.allowed_signers is not None and not self.require_signed:
            raise ValueError("allowed_signers has no effect without require_signed: true")
        titles = [step.title for step in self.steps]
        if twice := sorted({title for title in titles if titles.count(title) > 1}):
            raise ValueError(f"two steps are called {twice[0]}: give them a name each")
        return self


class Webhook(Settings):
    """What GitHub calls: ``POST /api/v1/webhooks/github`` of the API front."""

    secrets: list[SecretStr] = Field(min_length=1, max_length=4)
    """Secrets that deliveries may be signed with. Two are valid while one is being replaced by the other."""
    max_body_size: ByteSize = Field(default=5 * 2**20, ge=2**10, le=25 * 2**20)
    """Bytes of a delivery. GitHub sends 25 MiB at most."""

    @model_validator(mode="after")
    def _strong(self) -> Webhook:
        if any(len(secret.get_secret_value()) < 16 for secret in self.secrets):
            raise ValueError("expected secrets of at least 16 characters; make one by `openssl rand -hex 32`")
        return self


class GitOpsConfig(Settings):
    """Rolls out what is pushed: clones on this machine follow their remotes.

    Runs are kept in the store; see docs/gitops.md.
    """

    webhook: Webhook | None = None
    """Absent: nobody can ask for a run by webhook."""
    repositories: dict[Annotated[str, AfterValidator(_name)], Repository] = Field(min_length=1)
    """The clones, by name. Gateways that share a store share the names: one run of a name at a time among them all."""
    keep_runs: Annotated[Duration, Field(ge=timedelta(hours=1))] = timedelta(days=90)
    """How long runs that ended stay in the history. The last of each repository always does."""
