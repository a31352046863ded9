"""The version of a build, by the tags of its checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.packaging import version
from gateway.packaging.version import version_of


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path) -> str:
    git(folder, "commit", "-q", "--allow-empty", "-m", "Change something")
    return git(folder, "rev-parse", "--short", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    return tmp_path


def test_a_copy_without_git_has_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert version_of(tmp_path) == "0.0.0"
    monkeypatch.setenv("PATH", "/nonexistent")
    assert version_of(tmp_path) == "0.0.0", "there is no git at all"


def test_a_checkout_without_commits_has_no_version(checkout: Path) -> None:
    assert version_of(checkout) == "0.0.0"


def test_a_checkout_without_tags_is_counted_from_its_beginning(checkout: Path) -> None:
    commit(checkout)
    latest = commit(checkout)
    assert version_of(checkout) == f"0.0.0.post2+g{latest}"


@pytest.mark.parametrize("release", ["0.1.0", "1.4", "2.0.0rc1"])
def test_what_is_tagged_has_the_version_of_the_tag(checkout: Path, release: str) -> None:
    commit(checkout)
    git(checkout, "tag", f"v{release}")
    assert version_of(checkout) == release
    later = commit(checkout)
    assert version_of(checkout) == f"{release}.post1+g{later}"


@pytest.mark.parametrize("tag", ["nightly", "v1-something", "version-3", "v1.2.0-beta"])
def test_other_tags_are_none_of_its_versions(checkout: Path, tag: str) -> None:
    commit(checkout)
    git(checkout, "tag", tag)
    assert version_of(checkout).startswith("0.0.0.post1+g")


def test_whoever_builds_a_copy_may_say_what_it_is(tmp_path: Path) -> None:
    copy = tmp_path / "gateway/packaging/version.py"
    copy.parent.mkdir(parents=True)
    shutil.copy(version.__file__, copy)

    def printed(**variables: str) -> str:
        said = subprocess.run([sys.executable, copy], check=True, capture_output=True, text=True, env=variables)
        return said.stdout.strip()

    assert printed() == "0.0.0"
    assert printed(OBSHUB_BUILD_VERSION="1.4.0") == "1.4.0"


def test_a_build_within_a_hook_of_another_repository_asks_about_its_own(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(checkout)
    git(checkout, "tag", "v1.0.0")
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert version_of(checkout) == "1.0.0"


def test_the_checkout_of_something_else_says_nothing_about_a_copy_in_it(checkout: Path) -> None:
    commit(checkout)
    git(checkout, "tag", "v7.0.0")
    inner = checkout / "vendored"
    inner.mkdir()
    assert version_of(inner) == "0.0.0"
