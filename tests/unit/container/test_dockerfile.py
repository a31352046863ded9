"""The Dockerfile: what it copies is there, nothing else reaches the builder, and it is pinned and locked in."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.integration.test_documents import parsed
from tests.support.container import DOCKERFILE, ROOT, in_context, stages


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("git is not installed, or this is no checkout")
    return listed.stdout.splitlines()


def copied() -> list[str]:
    """The files and folders of the checkout that the build stage copies."""
    sources = []
    for text in stages()[0].all("COPY"):
        *each, _ = text.split()
        sources += each
    return sources


def test_what_is_copied_is_there_and_reaches_the_builder() -> None:
    for source in copied():
        assert (ROOT / source).exists(), source
        assert in_context(source.rstrip("/")), source


def test_nothing_but_what_is_copied_reaches_the_builder() -> None:
    roots = {source.split("/")[0] for source in copied()}
    for path in [*tracked(), ".env", ".git/config", ".venv/pyvenv.cfg", "docs/examples/compose/.env"]:
        assert not in_context(path) or path.split("/")[0] in roots, path
    assert not in_context("gateway/__pycache__/a.pyc")


def test_all_that_the_wheel_is_made_of_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    included = wheel["hooks"]["custom"]["force-include"]
    named = [*wheel["only-include"], *included, project["project"]["readme"], "pyproject.toml", "LICENSE"]
    roots = {source.rstrip("/") for source in copied()}
    for path in named:
        assert path.split("/")[0] in roots, path
        assert in_context(path), path


def test_images_are_pinned_and_the_same_in_both_stages() -> None:
    images = {stage.image for stage in stages()}
    assert len(images) == 1
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+\.\d+-slim-\w+", *images)


def test_stages_that_are_copied_from_are_there() -> None:
    build, final = stages()
    (text,) = final.all("COPY")
    match = re.fullmatch(r"--from=(\w+) (/\S+) (/\S+)", text)
    assert match is not None
    assert match[1] == build.name
    # A virtual environment knows its place.
    assert match[2] == match[3]


def test_it_runs_as_somebody_who_is_not_root_and_whom_the_charts_name() -> None:
    _, final = stages()
    assert final.all("USER") == ["10001:10001"]
    assert any("useradd --uid 10001 --gid 10001" in text for text in final.all("RUN"))
    helpers = (ROOT / "charts/gateway/templates/_helpers.tpl").read_text("utf-8")
    assert "runAsUser: 10001" in helpers


def test_nothing_installs_more_than_it_names() -> None:
    for stage in stages():
        for text in stage.all("RUN"):
            assert "apt-get install" not in text or "--no-install-recommends" in text
            assert "apt-get update" not in text or "rm -rf /var/lib/apt/lists/*" in text
            assert "pip install" not in text or "-c constraints.txt" in text
            assert "curl" not in text
        assert not stage.all("ADD")


def test_what_it_runs_is_understood_by_the_command_line() -> None:
    _, final = stages()
    assert final.words("ENTRYPOINT") == ["obs-hub"]
    for arguments in (final.words("CMD"), ["hostmetrics"], ["journal"], ["db", "backup"], ["hostmetrics", "--once"]):
        parsed(arguments)


def test_ports_and_places_are_those_of_the_hub() -> None:
    _, final = stages()
    assert final.all("EXPOSE") == ["4317 4318 8085"]
    data = final.environment["OBSHUB_DATA_DIR"]
    assert final.all("VOLUME") == [data]
    assert any(f"--mode 700 {data}" in text for text in final.all("RUN"))
    (health,) = final.all("HEALTHCHECK")
    assert "http://127.0.0.1:8085/api/v1/ready" in health


def test_an_instruction_that_docker_does_not_know_is_found() -> None:
    with pytest.raises(ValueError, match="unknown instruction"):
        stages(DOCKERFILE.read_text("utf-8") + "\nRUNN true\n")


def test_the_python_is_one_that_the_project_is_for(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    version = re.search(r"python:(3\.\d+)", stages()[0].image)
    assert version is not None
    assert f"Programming Language :: Python :: {version[1]}" in project["project"]["classifiers"]
