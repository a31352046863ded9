"""A clone follows its remote by fast-forwards, and is left alone where its owner has something in it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.extensions.gitops.drift import check
from gateway.extensions.gitops.git import Git, GitError
from gateway.extensions.gitops.reconcile import BusyError, exclusive
from tests.support.operations import Told
from tests.support.repositories import Repositories, git

NOTE = {"name": "note", "run": ["sh", "-c", 'echo "$OBSHUB_REVISION" >> ../notes']}
"""A step that writes down for which revision it ran."""


def notes(repositories: Repositories) -> list[str]:
    file = repositories.folder / "notes"
    return file.read_text().split() if file.exists() else []


# -- following ---------------------------------------------------------------------------------------------------------


async def test_a_push_is_fetched_and_rolled_out(repositories: Repositories) -> None:
    revision = repositories.push({"app": "1"})
    progress = await repositories.succeeds(repositories.settings(NOTE))
    assert repositories.head == revision == await repositories.good()
    assert notes(repositories) == [revision]
    assert progress.counts == {"commits": 1, "steps_succeeded": 1}
    assert "fast-forward" in progress.output.text


async def test_a_clone_that_is_there_already_is_rolled_out_once(repositories: Repositories) -> None:
    for _ in range(2):
        await repositories.succeeds(repositories.settings(NOTE))
    assert notes(repositories) == [repositories.first]


async def test_force_rolls_out_again(repositories: Repositories) -> None:
    await repositories.succeeds(repositories.settings(NOTE))
    await repositories.succeeds(repositories.settings(NOTE), force=True)
    assert notes(repositories) == [repositories.first] * 2


async def test_many_pushes_are_one_roll_out(repositories: Repositories) -> None:
    for number in range(3):
        last = repositories.push({"app": str(number)})
    await repositories.succeeds(repositories.settings(NOTE))
    assert notes(repositories) == [last]


async def test_a_clone_that_is_missing_is_made_where_a_url_says_from_where(repositories: Repositories) -> None:
    shutil.rmtree(repositories.hub)
    half_done = repositories.folder / ".hub.obs-hub-clone"
    half_done.mkdir()
    await repositories.succeeds(repositories.settings(NOTE, url=repositories.url))
    assert repositories.head == repositories.first
    assert not half_done.exists()


async def test_a_clone_that_is_missing_is_said_to_be(repositories: Repositories) -> None:
    shutil.rmtree(repositories.hub)
    assert "there is no clone at" in await repositories.fails(repositories.settings())


async def test_a_run_is_spans_of_what_it_did(repositories: Repositories) -> None:
    told = Told()
    repositories.push()
    await repositories.succeeds(repositories.settings(NOTE), told=told)
    assert [span.name for span in told.spans] == ["gitops.fetch", "gitops.fast_forward", "gitops.step"]
    step = told.span("gitops.step")
    assert dict(step.attributes or {}) == {"obs_hub.gitops.repository": "home", "obs_hub.gitops.step": "note"}


async def test_steps_run_only_when_what_they_look_at_has_changed(repositories: Repositories) -> None:
    settings = repositories.settings({**NOTE, "when": {"changed": ["charts/**", "*.yaml"]}})
    await repositories.succeeds(settings)
    repositories.push({"docs/deep/page": "1"})
    progress = await repositories.succeeds(settings)
    assert progress.counts["steps_skipped"] == 1
    inside = repositories.push({"charts/web/templates/deployment": "1"})
    await repositories.succeeds(settings)
    assert notes(repositories) == [repositories.first, inside]


async def test_what_a_failed_run_skipped_is_not_skipped_by_the_next(repositories: Repositories) -> None:
    """Changes count since the last good revision, not since the last revision."""
    check_step = {"name": "check", "run": ["test", "!", "-e", "broken"]}
    settings = repositories.settings(check_step, {**NOTE, "when": {"changed": ["charts/**"]}})
    await repositories.succeeds(settings)
    repositories.push({"charts/web": "2", "broken": ""})
    await repositories.fails(settings)
    (repositories.dev / "broken").unlink()
    fixed = repositories.push()
    await repositories.succeeds(settings)
    assert notes(repositories) == [repositories.first, fixed]


@pytest.mark.parametrize("failures", [1, 2])
async def test_what_a_failed_run_rolled_out_is_rolled_out_again_when_it_is_reverted(
    repositories: Repositories, failures: int
) -> None:
    """A revert leaves no difference to the last good revision; what is rolled out is another."""
    deploy = {"name": "deploy", "run": ["sh", "-c", "cp app ../app"], "when": {"changed": ["app"]}}
    check_step = {"name": "check", "run": ["test", "!", "-e", "broken"], "when": {"changed": ["broken"]}}
    settings = repositories.settings(deploy, check_step)
    repositories.push({"app": "good"})
    await repositories.succeeds(settings)
    repositories.push({"app": "bad", "broken": ""})
    for number in range(failures):
        await repositories.fails(settings)
        repositories.push({"other": str(number)})
    git(repositories.dev, "rm", "--quiet", "broken")
    repositories.push({"app": "good"})
    await repositories.succeeds(settings)
    assert (repositories.folder / "app").read_text() == "good"


async def test_merged_branches_are_removed_when_asked_for(repositories: Repositories) -> None:
    git(repositories.hub, "branch", "merged")
    git(repositories.hub, "symbolic-ref", "refs/heads/another-name", "refs/heads/main")
    git(repositories.hub, "switch", "--quiet", "-c", "own")
    git(repositories.hub, "commit", "--quiet", "--allow-empty", "--message", "Not merged")
    git(repositories.hub, "switch", "--quiet", "main")
    repositories.push()
    await repositories.succeeds(repositories.settings())
    assert "merged" in git(repositories.hub, "branch", "--format=%(refname:short)").split()
    repositories.push()
    progress = await repositories.succeeds(repositories.settings(prune_branches=True))
    assert git(repositories.hub, "branch", "--format=%(refname:short)").split() == ["another-name", "main", "own"]
    assert f"removed the merged branch 'merged', which stood at {repositories.first}" in progress.output.text


async def test_a_look_and_a_run_take_few_processes(repositories: Repositories, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small machine looks each minute."""
    started: list[str] = []
    run = Git.run

    async def counted(self: Git, *arguments: str, **options: Any) -> tuple[int, str]:
        started.append(arguments[0])
        return await run(self, *arguments, **options)

    monkeypatch.setattr(Git, "run", counted)
    await repositories.succeeds(repositories.settings(NOTE))
    started.clear()
    await check(Git(repositories.settings()))
    assert started == ["rev-parse", "config", "fetch", "cat-file", "status"]
    repositories.push({"app": "1"})
    started.clear()
    await repositories.succeeds(repositories.settings(NOTE))
    look, after_fetch, move = ["rev-parse", "config", "cat-file", "status"], ["cat-file", "rev-list"], ["update-ref"]
    step = ["config"]
    assert started == [*look, "fetch", *after_fetch, *move, "merge", *move, *step, "update-ref"]


# -- what is the owner's -----------------------------------------------------------------------------------------------


async def test_a_dirty_tree_is_refused_and_kept(repositories: Repositories) -> None:
    repositories.push({"README": "theirs\n"})
    (repositories.hub / "README").write_text("mine\n")
    error = await repositories.fails(repositories.settings(NOTE))
    assert "changes that are not committed ('README')" in error
    assert (repositories.hub / "README").read_text() == "mine\n"
    assert repositories.head == repositories.first
    assert notes(repositories) == []


async def test_an_untracked_file_is_refused_unless_allowed_and_always_kept(repositories: Repositories) -> None:
    revision = repositories.push({"new": "theirs\n"})
    mine = repositories.hub / "mine"
    mine.write_text("mine\n")
    assert "not committed ('mine')" in await repositories.fails(repositories.settings())
    await repositories.succeeds(repositories.settings(allow_untracked=True))
    assert repositories.head == revision
    assert mine.read_text() == "mine\n"


async def test_an_untracked_file_in_the_way_is_kept(repositories: Repositories) -> None:
    repositories.push({"new": "theirs\n"})
    (repositories.hub / "new").write_text("mine\n")
    error = await repositories.fails(repositories.settings(allow_untracked=True))
    assert "files that are not committed stand in the way" in error
    assert (repositories.hub / "new").read_text() == "mine\n"


async def test_a_staged_change_is_refused_and_kept(repositories: Repositories) -> None:
    (repositories.hub / "staged").write_text("mine\n")
    git(repositories.hub, "add", "staged")
    repositories.push()
    assert "not committed ('staged')" in await repositories.fails(repositories.settings())
    assert git(repositories.hub, "diff", "--cached", "--name-only") == "staged"


async def test_a_stash_is_kept(repositories: Repositories) -> None:
    (repositories.hub / "README").write_text("mine\n")
    git(repositories.hub, "stash", "--quiet")
    repositories.push()
    await repositories.succeeds(repositories.settings())
    assert len(git(repositories.hub, "stash", "list").splitlines()) == 1


async def test_another_branch_is_refused(repositories: Repositories) -> None:
    git(repositories.hub, "switch", "--quiet", "-c", "work")
    assert "is on branch work, not main" in await repositories.fails(repositories.settings())


async def test_a_detached_head_is_refused(repositories: Repositories) -> None:
    git(repositories.hub, "switch", "--quiet", "--detach")
    assert "is on no branch (detached HEAD)" in await repositories.fails(repositories.settings())


async def test_a_branch_without_a_commit_is_refused(repositories: Repositories) -> None:
    git(repositories.hub, "update-ref", "-d", "refs/heads/main")
    assert "the branch main in" in (error := await repositories.fails(repositories.settings()))
    assert "has no commit yet" in error


async def test_a_branch_of_the_remote_that_is_no_commit_is_refused(repositories: Repositories) -> None:
    blob = git(repositories.origin, "rev-parse", "main:README")
    (repositories.origin / "refs/heads/main").write_text(f"{blob}\n")
    assert "what origin has as main is no commit" in await repositories.fails(repositories.settings(NOTE))
    assert (repositories.head, notes(repositories)) == (repositories.first, [])


async def test_a_merge_under_way_is_refused(repositories: Repositories) -> None:
    git(repositories.hub, "switch", "--quiet", "-c", "side")
    git(repositories.hub, "commit", "--quiet", "--allow-empty", "--message", "Side")
    git(repositories.hub, "switch", "--quiet", "main")
    git(repositories.hub, "merge", "--quiet", "--no-ff", "--no-commit", "side")
    assert "a merge is under way" in await repositories.fails(repositories.settings())


async def test_local_commits_are_refused_and_kept(repositories: Repositories) -> None:
    git(repositories.hub, "commit", "--quiet", "--allow-empty", "--message", "Mine")
    mine = repositories.head
    assert "has commits that are not in origin/main" in await repositories.fails(repositories.settings())
    repositories.push()
    assert "have diverged" in await repositories.fails(repositories.settings())
    assert repositories.head == mine


async def test_a_force_push_is_refused_and_explained_however_often_it_is_looked_at(repositories: Repositories) -> None:
    repositories.push({"app": "1"})
    await repositories.succeeds(repositories.settings(NOTE))
    rolled_out = repositories.head
    git(repositories.dev, "reset", "--quiet", "--hard", repositories.first)
    repositories.push({"app": "2"})
    for _ in range(2):
        error = await repositories.fails(repositories.settings(NOTE))
        assert "origin/main was force-pushed" in error
        assert f"git -C {repositories.hub} reset --keep origin/main" in error
    assert repositories.head == rolled_out
    git(repositories.hub, "reset", "--quiet", "--keep", "origin/main")
    await repositories.succeeds(repositories.settings(NOTE))


async def test_a_remote_that_leads_elsewhere_is_refused(repositories: Repositories) -> None:
    settings = repositories.settings(url="https://user:hunter2hunter2@example.com/other.git")
    error = await repositories.fails(settings)
    assert "make them the same" in error
    assert "hunter2" not in error


async def test_a_folder_inside_a_clone_is_refused(repositories: Repositories) -> None:
    (repositories.hub / "inner").mkdir()
    assert "set path to that" in await repositories.fails(repositories.settings(path=str(repositories.hub / "inner")))


async def test_a_folder_that_is_no_clone_is_refused(repositories: Repositories) -> None:
    (repositories.folder / "plain").mkdir()
    settings = repositories.settings(path=str(repositories.folder / "plain"))
    assert "not a git repository" in await repositories.fails(settings)


@pytest.mark.parametrize(("how", "told"), [("KILL", "signal 9 (SIGKILL, which "), ("TERM", "signal 15 (SIGTERM)")])
async def test_that_a_signal_ended_git_is_told(repositories: Repositories, how: str, told: str) -> None:
    """It wrote nothing then, and a message without a reason says nothing."""
    alias = f"alias.die=!kill -{how} $PPID"
    with pytest.raises(GitError, match=re.escape(f"failed: it ended with {told}")):
        await Git(repositories.settings()).run("-c", alias, "die")


async def test_a_branch_that_is_not_at_the_remote_is_explained(repositories: Repositories) -> None:
    git(repositories.hub, "switch", "--quiet", "-c", "gone")
    assert "the branch is not at the remote" in await repositories.fails(repositories.settings(branch="gone"))


async def test_a_clone_is_worked_on_by_one_at_a_time(repositories: Repositories) -> None:
    async with exclusive(repositories.settings()):
        with pytest.raises(BusyError, match="another hub works on the clone"):
            await check(Git(repositories.settings()))
    await check(Git(repositories.settings()))


# -- what others push --------------------------------------------------------------------------------------------------


async def test_hooks_are_never_run(repositories: Repositories) -> None:
    hook = repositories.hub / ".git/hooks/post-merge"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {repositories.folder}/hooked\n")
    hook.chmod(0o755)
    repositories.push()
    await repositories.succeeds(repositories.settings())
    assert not (repositories.folder / "hooked").exists()


async def test_hostile_names_and_messages_are_just_names_and_messages(repositories: Repositories) -> None:
    evil = f"$(touch {repositories.folder}/hacked);`touch {repositories.folder}/hacked`"
    files = {"--upload-pack=touch hacked": "1", "a;touch hacked": "1", "$(touch hacked)": "1", "new\nline": "1"}
    revision = repositories.push(files, evil)
    git(repositories.dev, "push", "--quiet", "origin", "HEAD:refs/heads/$(touch${IFS}hacked)")
    await repositories.succeeds(repositories.settings(NOTE))
    assert notes(repositories) == [revision]
    assert not (repositories.folder / "hacked").exists()
    assert not (repositories.hub / "hacked").exists()


async def test_submodules_are_not_followed(repositories: Repositories) -> None:
    git(repositories.dev, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", repositories.url, "sub")
    repositories.push()
    await repositories.succeeds(repositories.settings())
    assert list((repositories.hub / "sub").iterdir()) == []


@pytest.fixture
def with_submodule(repositories: Repositories, monkeypatch: pytest.MonkeyPatch) -> Repositories:
    """A repository with a submodule of its own, and a user who allows the transport that tests use."""
    (repositories.folder / "home").mkdir()
    (repositories.folder / "home/.gitconfig").write_text('[protocol "file"]\nallow = always\n')
    monkeypatch.setenv("HOME", str(repositories.folder / "home"))
    git(repositories.folder, "clone", "--quiet", "--bare", repositories.url, "lib.git")
    lib = f"file://{repositories.folder}/lib.git"
    git(repositories.folder, "clone", "--quiet", lib, "lib")
    git(repositories.dev, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", lib, "sub")
    repositories.push()
    return repositories


def push_submodule(repositories: Repositories) -> None:
    for folder in (repositories.folder / "lib", repositories.dev / "sub"):
        git(folder, "pull", "--quiet", "origin", "main")
    (repositories.folder / "lib/new").write_text("new\n")
    git(repositories.folder / "lib", "add", "--all")
    git(repositories.folder / "lib", "commit", "--quiet", "--message", "New")
    git(repositories.folder / "lib", "push", "--quiet", "origin", "HEAD:main")
    git(repositories.dev / "sub", "pull", "--quiet", "origin", "main")
    repositories.push()


async def test_submodules_are_followed_when_asked_for(with_submodule: Repositories) -> None:
    shutil.rmtree(with_submodule.hub)
    settings = with_submodule.settings(
        {"name": "look", "run": ["test", "-e", "sub/README"]}, submodules=True, url=with_submodule.url
    )
    await with_submodule.succeeds(settings)
    push_submodule(with_submodule)
    await with_submodule.succeeds(settings)
    assert (with_submodule.hub / "sub/new").exists()


async def test_an_update_of_submodules_that_failed_is_made_up_for(with_submodule: Repositories) -> None:
    settings = with_submodule.settings(submodules=True)
    await with_submodule.succeeds(settings)
    push_submodule(with_submodule)
    away = (with_submodule.folder / "lib.git").rename(with_submodule.folder / "away")
    assert "git submodule" in await with_submodule.fails(settings)
    away.rename(with_submodule.folder / "lib.git")
    found = await check(Git(settings))
    assert (found.drift, found.due) == (frozenset(), True)
    await with_submodule.succeeds(settings)
    assert (with_submodule.hub / "sub/new").exists()


async def test_what_is_changed_in_a_submodule_is_refused_and_kept(with_submodule: Repositories) -> None:
    settings = with_submodule.settings(submodules=True)
    await with_submodule.succeeds(settings)
    (with_submodule.hub / "sub/README").write_text("mine\n")
    assert "not committed ('sub')" in await with_submodule.fails(settings)
    git(with_submodule.hub / "sub", "commit", "--quiet", "--all", "--message", "Mine")
    assert "not committed ('sub')" in await with_submodule.fails(settings)
    assert (with_submodule.hub / "sub/README").read_text() == "mine\n"


async def test_a_link_out_of_the_repository_is_not_followed(repositories: Repositories) -> None:
    (repositories.dev / "outside").symlink_to(repositories.folder)
    repositories.push()
    for step in ({"run": ["ls"], "working_directory": "outside"}, {"kubectl_apply": {"path": "outside"}}):
        assert "a link that leads out of the repository" in await repositories.fails(repositories.settings(step))
        repositories.push()


async def test_variables_that_would_point_git_elsewhere_are_not_passed_on(
    repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(repositories.dev / ".git"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    revision = repositories.push()
    await repositories.succeeds(repositories.settings())
    monkeypatch.undo()
    assert repositories.head == revision


# -- signatures --------------------------------------------------------------------------------------------------------


def make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("there is no ssh-keygen to sign commits with")
    key = make_key(tmp_path / "key")
    (tmp_path / "signers").write_text(f"dev@example.com {key.with_suffix('.pub').read_text()}")
    return key


def signed(key: Path) -> tuple[str, ...]:
    return ("-c", "gpg.format=ssh", "-c", f"user.signingKey={key}", "-c", "commit.gpgSign=true")


async def test_only_signed_revisions_are_rolled_out_when_asked_for(repositories: Repositories, key: Path) -> None:
    settings = repositories.settings(NOTE, require_signed=True, allowed_signers=str(repositories.folder / "signers"))
    repositories.push({"app": "unsigned"})
    assert "has no SSH signature" in await repositories.fails(settings)
    assert repositories.head == repositories.first
    revision = repositories.commit({"app": "signed"}, "Signed", *signed(key))
    git(repositories.dev, "push", "--quiet", "origin", "HEAD:main")
    await repositories.succeeds(settings)
    assert notes(repositories) == [revision]


async def test_a_signature_beside_one_of_ssh_does_not_count(repositories: Repositories, key: Path) -> None:
    """Where SSH keys are named, the keyring of the hub's user does not say who else may sign."""
    keyring = repositories.folder / "gpg"
    said = ("NEWSIG", "GOODSIG 0 somebody", "TRUST_ULTIMATE 0 pgp")
    # It reads to the end what it is given: to git, a program that does not is one that failed.
    keyring.write_text("#!/bin/sh\ncat > /dev/null\n" + "".join(f"echo '[GNUPG:] {line}'\n" for line in said))
    keyring.chmod(0o755)
    git(repositories.hub, "config", "gpg.program", str(keyring))
    commit = git(repositories.dev, "cat-file", "commit", repositories.commit({"app": "1"}))
    signatures = "".join(
        f"{header} -----BEGIN {kind} SIGNATURE-----\n -----END {kind} SIGNATURE-----\n"
        for header, kind in (("gpgsig-sha256", "SSH"), ("gpgsig", "PGP"))
    )
    forged = repositories.folder / "forged"
    forged.write_text(commit.replace("\n\n", f"\n{signatures}\n", 1) + "\n")
    revision = git(repositories.dev, "hash-object", "-t", "commit", "-w", str(forged))
    git(repositories.dev, "push", "--quiet", "origin", f"{revision}:main")
    settings = repositories.settings(require_signed=True, allowed_signers=str(repositories.folder / "signers"))
    assert "has no good signature of somebody who may sign" in await repositories.fails(settings)
    await repositories.succeeds(repositories.settings(require_signed=True))


async def test_a_signature_of_somebody_else_is_refused(repositories: Repositories, key: Path) -> None:
    other = make_key(repositories.folder / "other")
    repositories.commit({"app": "1"}, "Signed", *signed(other))
    git(repositories.dev, "push", "--quiet", "origin", "HEAD:main")
    settings = repositories.settings(NOTE, require_signed=True, allowed_signers=str(repositories.folder / "signers"))
    assert "has no good signature of somebody who may sign" in await repositories.fails(settings)
    assert notes(repositories) == []


# -- drift -------------------------------------------------------------------------------------------------------------


async def test_drift_is_found(repositories: Repositories) -> None:
    settings = repositories.settings()
    assert (await check(Git(settings))).due
    await repositories.succeeds(settings)
    clean = await check(Git(settings))
    assert (clean.drift, clean.due) == (frozenset(), False)
    repositories.push()
    assert (await check(Git(settings), fetch=False)).drift == frozenset()
    behind = await check(Git(settings))
    assert (behind.drift, behind.due) == ({"behind"}, True)
    (repositories.hub / "README").write_text("mine")
    dirty = await check(Git(settings))
    assert (dirty.drift, dirty.due) == ({"behind", "dirty"}, False)
    git(repositories.hub, "checkout", "--quiet", "README")
    git(repositories.hub, "commit", "--quiet", "--allow-empty", "--message", "Mine")
    assert (await check(Git(settings))).drift == {"behind", "local_commits"}
    git(repositories.hub, "switch", "--quiet", "--detach")
    assert "detached" in (await check(Git(settings))).drift
    git(repositories.hub, "switch", "--quiet", "-c", "other")
    assert "wrong_branch" in (await check(Git(settings))).drift


async def test_a_clone_that_is_missing_is_behind_where_it_can_be_made_and_unusable_otherwise(
    repositories: Repositories,
) -> None:
    repositories.hub.rename(repositories.folder / "moved")
    missing = await check(Git(repositories.settings(url=str(repositories.origin))))
    assert (missing.state, missing.drift, missing.due) == (None, {"behind"}, True)
    lost = await check(Git(repositories.settings()))
    assert (lost.state, lost.drift, lost.due) == (None, {"unusable"}, False)


async def test_a_remote_that_is_away_is_a_drift_of_its_own(repositories: Repositories) -> None:
    repositories.origin.rename(repositories.folder / "moved")
    found = await check(Git(repositories.settings()))
    assert "unusable" in found.drift
    assert found.problem is not None
    assert not found.due


# -- moves that are cut off --------------------------------------------------------------------------------------------


class KilledError(Exception):
    pass


@pytest.fixture
def cut_off(repositories: Repositories, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let git be killed in the middle of checking out, with whoever runs it: when it comes to a file of this name.

    A filter of the repository's owner does it, such as that of Git LFS, which may well take its time there.
    """
    git(repositories.hub, "config", "filter.deadly.clean", "cat")
    git(repositories.hub, "config", "filter.deadly.smudge", "cat")
    git(repositories.hub, "config", "filter.deadly.required", "true")
    run = Git.run

    async def run_or_die(self: Git, *arguments: str, **options: Any) -> tuple[int, str]:
        try:
            return await run(self, *arguments, **options)
        except GitError as error:
            if arguments[0] in ("merge", "reset"):
                raise KilledError from error
            raise

    def at(name: str) -> None:
        monkeypatch.setattr(Git, "run", run_or_die)
        git(repositories.hub, "config", "filter.deadly.smudge", f"test %f != {name} || kill -TERM $PPID; cat")

    return at


def recover(repositories: Repositories, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    git(repositories.hub, "config", "filter.deadly.smudge", "cat")


ATTRIBUTES = {".gitattributes": "* filter=deadly\n"}


@pytest.mark.parametrize("owner", ["nothing", "edits", "adds", "branches off"])
async def test_a_fast_forward_that_was_cut_off_is_finished_unless_the_owner_did_something(
    repositories: Repositories, cut_off: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, owner: str
) -> None:
    repositories.push({**ATTRIBUTES, "a": "1", "b": "1", "gone": "1", "m": "1", "z": "1"})
    await repositories.succeeds(repositories.settings())
    before = repositories.head
    git(repositories.dev, "rm", "--quiet", "gone")
    repositories.push({"a": "2", "b": "2", "folder/new *": "2", "m": "2", "z": "2"})
    cut_off("m")
    with pytest.raises(KilledError):
        await repositories.reconcile(repositories.settings(NOTE))
    assert repositories.head == before
    assert (repositories.hub / "a").read_text() == "2"
    assert (repositories.hub / "z").read_text() == "1"
    recover(repositories, monkeypatch)
    last = repositories.push({"a": "3"})
    if owner == "nothing":
        await repositories.succeeds(repositories.settings(NOTE), resumed=True)
        assert notes(repositories) == [last]
        assert not git(repositories.hub, "status", "--porcelain")
        return
    if owner == "branches off":
        git(repositories.hub, "switch", "--quiet", "-c", "own")
        half = git(repositories.hub, "status", "--porcelain")
        await repositories.fails(repositories.settings(NOTE), resumed=True)
        assert (repositories.head, git(repositories.hub, "status", "--porcelain")) == (before, half)
        return
    name = {"edits": "b", "adds": "own"}[owner]
    (repositories.hub / name).write_text("mine")
    assert "changes that are not committed" in await repositories.fails(repositories.settings(NOTE), resumed=True)
    assert (repositories.hub / name).read_text() == "mine"
    if owner == "adds":
        await repositories.succeeds(repositories.settings(NOTE, allow_untracked=True), resumed=True)
        assert git(repositories.hub, "status", "--porcelain") == "?? own"


async def test_a_return_that_was_cut_off_in_the_checkout_is_finished(
    repositories: Repositories, cut_off: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy = {"name": "deploy", "run": ["sh", "-c", "cp z ../deployed; test $(cat z) != bad"], "rollback": True}
    good = repositories.push({**ATTRIBUTES, "a": "good", "m": "good", "z": "good"})
    await repositories.succeeds(repositories.settings(deploy))
    bad = repositories.push({"a": "bad", "m": "bad", "new": "bad", "z": "bad"})
    git(repositories.hub, "fetch", "--quiet")
    git(repositories.hub, "merge", "--quiet", "--ff-only", "origin/main")
    cut_off("m")
    with pytest.raises(KilledError):
        await repositories.reconcile(repositories.settings(deploy))
    assert (repositories.hub / "a").read_text() == "good"
    recover(repositories, monkeypatch)
    assert f"returned to {good}" in await repositories.fails(repositories.settings(deploy), resumed=True)
    assert (repositories.head, await repositories.failed()) == (good, bad)
    assert not git(repositories.hub, "status", "--porcelain")
    assert (repositories.folder / "deployed").read_text() == "good"
