"""What the settings of ``gitops`` allow, and how mistakes are told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from gateway.extensions.gitops.config import GitOpsConfig, Repository, Step

ROOT = Path(__file__).parents[3]


def test_the_example_of_the_manual_is_valid() -> None:
    example = re.search(r"```yaml\n(.*?)```", (ROOT / "docs/gitops.md").read_text(), re.DOTALL)
    assert example is not None
    section = yaml.safe_load(example[1].replace("${env:OBSHUB_WEBHOOK_SECRET}", "x" * 32))["extensions"]["gitops"]
    home = GitOpsConfig.model_validate(section).repositories["home"]
    assert [step.title for step in home.steps] == ["helm-web", "kubectl-apply", "systemd-units", "compose"]
    assert home.require_signed


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"path": "relative"}, "expected an absolute path of the clone"),
        ({"branch": "-x"}, "a name that git allows"),
        ({"branch": "a..b"}, "a name that git allows"),
        ({"branch": "main.lock"}, "a name that git allows"),
        ({"remote": "--upload-pack=x"}, "a name that git allows"),
        ({"url": "--upload-pack=x"}, "does not begin with '-'"),
        ({"github": "https://github.com/someone/home"}, "expected OWNER/REPOSITORY"),
        ({"allowed_signers": "/etc/signers"}, "no effect without require_signed"),
        ({"interval": "1s"}, "greater than or equal to"),
        ({"steps": [{"run": ["true"]}, {"run": ["true"]}]}, "two steps are called true"),
    ],
)
def test_a_repository_that_cannot_work_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Repository.model_validate({"path": "/srv/home", **settings})


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({}, "exactly one of run"),
        ({"run": ["true"], "kubectl_apply": {"path": "."}}, "exactly one of run"),
        ({"run": []}, "at least 1 item"),
        ({"run": "rm -rf x"}, "valid list"),
        ({"kubectl_apply": {"path": "../elsewhere"}}, "a path inside the repository"),
        ({"kubectl_apply": {"path": "/etc"}}, "a path inside the repository"),
        ({"systemd_units": {"source": ".git/hooks", "units": ["web.service"]}}, "a path inside the repository"),
        ({"systemd_units": {"source": ".GIT/hooks", "units": ["web.service"]}}, "a path inside the repository"),
        ({"systemd_units": {"source": "systemd"}}, "units"),
        ({"systemd_units": {"source": "systemd", "units": []}}, "units"),
        ({"systemd_units": {"source": "systemd", "units": ["*"]}}, "the beginning of some such as home-*"),
        ({"systemd_units": {"source": "systemd", "units": ["*.service"]}}, "the beginning of some such as home-*"),
        ({"helm_upgrade": {"release": "Web", "chart": "charts/web"}}, "lower-case letters"),
        ({"helm_upgrade": {"release": "web", "chart": "--post-renderer=x"}}, "does not begin with '-'"),
        ({"run": ["true"], "env": {"A=B": "c"}}, "name of an environment variable"),
        ({"run": ["true"], "timeout": "0s"}, "should be greater than"),
    ],
)
def test_a_step_that_cannot_work_is_refused(step: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Step.model_validate(step)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({}, "Field required"),
        ({"repositories": {}}, "at least 1 item"),
        ({"repositories": {"../home": {"path": "/srv/home"}}}, "expected a name of letters"),
        ({"repositories": {"home": {"path": "/srv/home"}}, "webhook": {"secrets": ["short"]}}, "openssl rand -hex 32"),
        ({"repositories": {"home": {"path": "/srv/home"}}, "webhook": {"secrets": []}}, "at least 1 item"),
    ],
)
def test_a_section_that_cannot_work_is_refused(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        GitOpsConfig.model_validate(section)


def test_no_secret_is_shown() -> None:
    section = {
        "webhook": {"secrets": ["a-secret-of-the-webhook"]},
        "repositories": {"home": {"path": "/srv/home", "steps": [{"run": ["x"], "env": {"TOKEN": "a-token"}}]}},
    }
    shown = repr(GitOpsConfig.model_validate(section))
    assert "a-secret" not in shown
    assert "a-token" not in shown
