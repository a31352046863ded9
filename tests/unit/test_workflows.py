"""What the repository tells programs to run: every command, target and file of it exists."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from gateway.cli import main

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in loaded(path)["jobs"].items():
            yield f"{path.stem}.{name}", job


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in jobs():
        for number, step in enumerate(job["steps"]):
            yield f"{name}.{number}", step


RUN = [pytest.param(step["run"], id=name) for name, step in steps() if "run" in step]
USED = [pytest.param(step["uses"], id=name) for name, step in steps() if "uses" in step]


def commands(script: str) -> Iterator[list[str]]:
    """Yield the words of each command of a script. Its control structures are words like others."""
    for line in re.split(r"\n|;|&&|\|\|", script.replace("\\\n", " ")):
        words = shlex.split(line)
        while words and (words[0] in {"until", "do", "done", "sudo", "export"} or "=" in words[0]):
            words.pop(0)
        if words:
            yield words


def test_there_are_workflows_to_look_at() -> None:
    assert {path.stem for path in WORKFLOWS} == {"checks", "nightly", "pages", "release"}


@pytest.mark.parametrize("script", RUN)
def test_what_a_workflow_runs_exists(script: str) -> None:
    for program, *arguments in commands(script):
        if program == "make":
            assert arguments[0] in TARGETS, f"the Makefile has no target {arguments[0]}"
        elif "/" in program:
            assert os.access(ROOT / program, os.X_OK), f"{program} cannot be run"
        else:
            assert program in {"apt-get", "docker", "gh", "go", "sleep"}, "a machine that is not ours must have it"


def test_what_make_has_the_hub_do_is_a_command_of_it() -> None:
    """The command line reads each command of a recipe as far as it would before running it."""
    written = re.findall(r"^\t@?\$\(BIN\)/obs-hub (.*)", MAKEFILE, re.MULTILINE)
    assert written
    for line in written:
        rest = [re.sub(r"\$\(\w+\)", "", word) for word in shlex.split(line) if word != "$(ARGS)"]
        context: click.Context | None = None
        command: click.Command = main
        while True:
            context = command.make_context("obs-hub", rest, parent=context)
            if not isinstance(command, click.Group):
                break
            _, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            assert found is not None
            command = found


@pytest.mark.parametrize("action", USED)
def test_an_action_is_pinned(action: str) -> None:
    """By a version for those of the forge itself; by a commit for others, whose tags somebody else may move."""
    owner, _, version = action.partition("@")
    own = owner.startswith("actions/") and re.fullmatch(r"v\d+", version)
    assert own or re.fullmatch(r"[0-9a-f]{40}", version), action


def test_every_job_has_an_end_and_no_right_that_it_was_not_given() -> None:
    for path in WORKFLOWS:
        assert loaded(path)["permissions"] == {"contents": "read"}
    rights = {name: job["permissions"] for name, job in jobs() if "permissions" in job}
    assert rights == {
        "pages.build": {"contents": "read", "pages": "read"},
        "pages.deploy": {"pages": "write", "id-token": "write"},
        "release.publish": {"id-token": "write"},
        "release.announce": {"contents": "write"},
    }
    assert all("timeout-minutes" in job for _, job in jobs())


def test_every_version_that_is_supported_is_checked() -> None:
    checks = dict(jobs())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    stated = [each.rpartition(" ")[2] for each in project["classifiers"] if "Python :: 3." in each]
    assert checks["checks.tests"]["strategy"]["matrix"]["python"] == stated
    servers = [checks[f"checks.{name}"]["strategy"]["matrix"]["postgresql"] for name in ("postgresql", "timescaledb")]
    assert servers == [[15, 16, 17, 18]] * 2


def test_actionlint_finds_nothing() -> None:
    program = shutil.which("actionlint")
    if program is None:
        pytest.skip("there is no actionlint on PATH")
    said = subprocess.run(
        [program, *WORKFLOWS], cwd=ROOT, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]}
    )
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_both_judge_the_workflows_by_the_same_actionlint() -> None:
    installed = {
        name: set(re.findall(r"go install (\S*actionlint@v[0-9.]+)", (ROOT / name).read_text("utf-8")))
        for name in (".ci/run", ".github/workflows/checks.yml")
    }
    assert len(installed[".ci/run"]) == 1
    assert installed[".ci/run"] == installed[".github/workflows/checks.yml"]


def test_what_is_run_before_a_commit_exists() -> None:
    requirements = (ROOT / "constraints.txt").read_text("utf-8")
    for repository in loaded(ROOT / ".pre-commit-config.yaml")["repos"]:
        assert repository["repo"] == "local", "the versions are those of constraints.txt"
        for hook in repository["hooks"]:
            program, *arguments = shlex.split(hook["entry"])
            assert program.startswith(".venv/bin/")
            assert f"\n{program.removeprefix('.venv/bin/')}==" in requirements
            assert all((ROOT / word).exists() for word in arguments if word.startswith("tests/"))


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem)
def test_a_form_asks_each_thing_once(path: Path) -> None:
    form = loaded(path)
    if path.stem == "config":
        assert form == {"blank_issues_enabled": True}
        return
    assert {"name", "description", "body"} <= form.keys()
    ids = [each["id"] for each in form["body"] if each["type"] != "markdown"]
    assert len(ids) == len(set(ids))
    assert all(each["attributes"].get("label") for each in form["body"] if each["type"] != "markdown")


def test_scripts_of_the_checks_can_be_read() -> None:
    for path in (ROOT / ".ci").iterdir():
        assert os.access(path, os.X_OK), f"{path.name} cannot be run"
        subprocess.run(["bash", "-n", path], check=True)


# -- the changelog -----------------------------------------------------------------------------------------------------

CHANGELOG = """\
# Changelog

## [Unreleased]

### Added
- Something that is to come.

## [1.1.0] - 2031-02-03

### Fixed
- A fault.

- Another.

## [1.0.0] - 2031-01-01

- The first.

[1.1.0]: https://example.org/compare
"""


def notes(folder: Path, tag: str) -> subprocess.CompletedProcess[str]:
    (folder / ".ci").mkdir(exist_ok=True)
    shutil.copy(ROOT / ".ci/release-notes", folder / ".ci")
    (folder / "CHANGELOG.md").write_text(CHANGELOG)
    return subprocess.run([folder / ".ci/release-notes", tag], capture_output=True, text=True, check=False)


def test_a_release_is_described_by_its_section_of_the_changelog(tmp_path: Path) -> None:
    assert notes(tmp_path, "v1.1.0").stdout == "### Fixed\n- A fault.\n\n- Another.\n\n"
    assert notes(tmp_path, "v1.0.0").stdout == "- The first.\n\n"


def test_a_release_that_the_changelog_does_not_know_is_none(tmp_path: Path) -> None:
    answered = notes(tmp_path, "v1.2.0")
    assert (answered.returncode, answered.stdout) == (1, "")
    assert "no section for v1.2.0" in answered.stderr


def test_the_changelog_has_the_form_that_is_kept() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", heading) for heading in headings[1:])
    kinds = re.findall(r"^### (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
