"""Steps: programs without a shell, bounded in time and output, and a way back when they fail."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.extensions.gitops import process
from gateway.extensions.gitops.git import GOOD, RETURNING, Git
from gateway.extensions.gitops.process import RUN_VARIABLE, Redactor, end_leftovers
from gateway.extensions.gitops.units import _UNIT
from gateway.runs import RunState
from tests.integration.cli.processes import until
from tests.support.operations import Told, hexadecimal
from tests.support.repositories import Repositories, git

DEPLOY = {"name": "deploy", "run": ["sh", "-c", 'cat app >> ../deployed; test "$(cat app)" != bad'], "rollback": True}
"""Deploys the content of the file app, and fails for a bad one."""


def deployed(repositories: Repositories) -> list[str]:
    return (repositories.folder / "deployed").read_text().split()


# -- running -----------------------------------------------------------------------------------------------------------


async def test_steps_run_in_order_and_stop_at_the_first_that_fails(repositories: Repositories) -> None:
    outcome, progress = await repositories.reconcile(
        repositories.settings(
            {"name": "first", "run": ["echo", "one"]},
            {"name": "second", "run": ["sh", "-c", "echo two >&2; exit 3"]},
            {"name": "third", "run": ["echo", "three"]},
        )
    )
    assert outcome.state is RunState.FAILED
    assert outcome.error == f"step second failed for {repositories.first}: sh ended with exit code 3"
    assert "one\n" in progress.output.text
    assert "two\n" in progress.output.text
    assert "three" not in progress.output.text
    assert progress.counts == {"steps_succeeded": 1, "steps_failed": 1}


async def test_arguments_are_arguments_and_no_shell_reads_them(repositories: Repositories) -> None:
    progress = await repositories.succeeds(repositories.settings({"run": ["echo", "$HOME;", "`id`", "*"]}))
    assert "$HOME; `id` *" in progress.output.text


async def test_a_program_that_is_missing_is_named(repositories: Repositories) -> None:
    assert "no-such-program cannot be run" in await repositories.fails(
        repositories.settings({"run": ["no-such-program"]})
    )


async def test_a_step_knows_its_run_and_its_trace(repositories: Repositories) -> None:
    told = Told()
    progress = await repositories.succeeds(repositories.settings({"run": ["env"]}), told=told)
    variables = dict(line.partition("=")[::2] for line in progress.output.text.splitlines())
    assert variables["OBSHUB_REVISION"] == repositories.first
    assert variables["OBSHUB_REPOSITORY"] == "home"
    trace_id, span_id = hexadecimal(told.span("gitops.step").context)
    assert variables["TRACEPARENT"] == f"00-{trace_id}-{span_id}-01"


async def test_a_step_gets_none_of_the_gateways_secrets(
    repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_WEBHOOK_SECRET", "a-secret-of-the-gateway")
    progress = await repositories.succeeds(repositories.settings({"run": ["env"]}))
    assert "a-secret-of-the-gateway" not in progress.output.text


async def test_the_secrets_of_a_step_are_masked_in_what_it_writes(repositories: Repositories) -> None:
    step = {"run": ["sh", "-c", 'printf "%s" "$TOKEN"; printf in-the-; sleep 0.1; printf middle'],
            "env": {"TOKEN": "in-the-middle"}}  # fmt: skip
    progress = await repositories.succeeds(repositories.settings(step))
    assert "in-the-middle" not in progress.output.text
    assert progress.output.text.count("********") == 2


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_secrets_are_masked_wherever_the_text_is_cut(size: int) -> None:
    text = "begin hunter2hunter2 hunter2 middle hunter2hunter2"
    seen: list[str] = []
    redactor = Redactor(["hunter2", "hunter2hunter2"], seen.append)
    for start in range(0, len(text), size):
        redactor.add(text[start : start + size])
    redactor.close()
    assert "hunter" not in "".join(seen)
    assert "".join(seen).startswith("begin ********")


async def test_output_that_is_no_text_is_kept_as_far_as_it_is(repositories: Repositories) -> None:
    progress = await repositories.succeeds(repositories.settings({"run": ["printf", r"a\377b\000c"]}))
    assert "a\N{REPLACEMENT CHARACTER}b" in progress.output.text


async def test_endless_output_is_bounded(repositories: Repositories) -> None:
    progress = await repositories.succeeds(repositories.settings({"run": ["sh", "-c", "yes | head -c 3000000"]}))
    assert len(progress.output.text) <= 64 * 1024


# -- time --------------------------------------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_step_that_takes_too_long_is_ended_with_all_it_started(
    repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_GRACE", 0.5)
    script = "trap '' TERM; (trap '' TERM; sleep 600 & echo $! >> ../pids; wait) & echo $! >> ../pids; sleep 600"
    step = {"name": "slow", "run": ["sh", "-c", script], "timeout": "500ms"}
    assert "took longer than 0.5 s and was ended, with all it had started" in await repositories.fails(
        repositories.settings(step)
    )
    pids = [int(line) for line in (repositories.folder / "pids").read_text().split()]
    assert len(pids) == 2
    until(lambda: not any(alive(pid) for pid in pids))


async def test_a_step_that_is_ended_leaves_no_daemon(repositories: Repositories) -> None:
    step = {"name": "daemon", "run": ["sh", "-c", "setsid sh -c 'echo $$ > ../pid; exec sleep 600' & sleep 600"]}
    run = asyncio.create_task(repositories.reconcile(repositories.settings(step)))
    pid = repositories.folder / "pid"
    while not (pid.exists() and pid.read_text()):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)
    run.cancel()
    await asyncio.wait({run})
    until(lambda: not alive(int(pid.read_text())))  # it has been killed, and is gone a moment later


async def test_a_step_that_is_ended_while_it_starts_leaves_nothing(
    repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loaded machine may run a program for long before who started it is told that it runs."""
    pid = repositories.folder / "pid"
    start = asyncio.create_subprocess_exec

    async def slowly(*argv: str, **options: Any) -> asyncio.subprocess.Process:
        started = await start(*argv, **options)
        if argv[0] == "sh":
            while not (pid.exists() and pid.read_text()):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            run.cancel()
            await asyncio.sleep(0.05)
        return started

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slowly)
    step = {"name": "early", "run": ["sh", "-c", "sleep 600 & echo $! > ../pid; wait"]}
    run = asyncio.create_task(repositories.reconcile(repositories.settings(step)))
    await asyncio.wait({run})
    assert run.cancelled()
    until(lambda: not alive(int(pid.read_text())))


async def test_nothing_of_a_step_outlives_it(repositories: Repositories) -> None:
    step = {"name": "sneaky", "run": ["sh", "-c", "sleep 600 & echo $! > ../pids"]}
    await repositories.succeeds(repositories.settings(step))
    pid = int((repositories.folder / "pids").read_text())
    until(lambda: not alive(pid))


def test_what_a_killed_gateway_left_running_is_ended_by_the_run_it_belongs_to() -> None:
    processes = [
        subprocess.Popen(["sleep", "600"], env={**os.environ, RUN_VARIABLE: run}, start_new_session=True)
        for run in ("obs-hub-test-mine", "obs-hub-test-other")
    ]
    try:
        # A process has its environment a moment after it was started.
        until(lambda: all(RUN_VARIABLE in psutil.Process(each.pid).environ() for each in processes))
        assert end_leftovers("obs-hub-test-mine") == 1
        assert [alive(each.pid) for each in processes] == [False, True]
    finally:
        for each in processes:
            each.kill()
            each.wait()


# -- the way back ------------------------------------------------------------------------------------------------------


async def test_a_bad_revision_is_returned_from_and_not_tried_again(repositories: Repositories) -> None:
    settings = repositories.settings(DEPLOY)
    good = repositories.push({"app": "good\n"})
    await repositories.succeeds(settings)
    bad = repositories.push({"app": "bad\n"})
    outcome, _ = await repositories.reconcile(settings)
    assert outcome.error == f"step deploy failed for {bad}: sh ended with exit code 1; returned to {good}"
    assert outcome.result == {"before": good, "revision": good, "failed_revision": bad, "returned": True}
    assert (repositories.head, await repositories.good(), await repositories.failed()) == (good, good, bad)
    assert "failed before and is not tried again" in await repositories.fails(settings)
    assert deployed(repositories) == ["good", "bad", "good"]
    fixed = repositories.push({"app": "fixed\n"})
    await repositories.succeeds(settings)
    assert (repositories.head, await repositories.failed()) == (fixed, None)
    assert deployed(repositories) == ["good", "bad", "good", "fixed"]


async def test_force_tries_a_bad_revision_again(repositories: Repositories) -> None:
    settings = repositories.settings(DEPLOY)
    repositories.push({"app": "bad\n"})
    await repositories.fails(settings)
    assert "returned" not in await repositories.fails(settings, force=True)
    assert deployed(repositories) == ["bad", "bad"]


async def test_without_rollback_the_clone_stays_at_the_bad_revision(repositories: Repositories) -> None:
    settings = repositories.settings({**DEPLOY, "rollback": False})
    repositories.push({"app": "good\n"})
    await repositories.succeeds(settings)
    bad = repositories.push({"app": "bad\n"})
    assert (await repositories.fails(settings)).endswith("exit code 1")
    assert repositories.head == bad


async def test_only_what_differs_is_run_on_the_way_back(repositories: Repositories) -> None:
    settings = repositories.settings({**DEPLOY, "when": {"changed": ["app"]}}, {"name": "web", "run": ["sh", "-c",
        "echo web >> ../deployed"], "when": {"changed": ["web/**"]}})  # fmt: skip
    repositories.push({"app": "good\n", "web/page": "1"})
    await repositories.succeeds(settings)
    repositories.push({"app": "bad\n"})
    await repositories.fails(settings)
    assert deployed(repositories) == ["good", "web", "bad", "good"]


async def test_a_way_back_that_fails_is_said_and_not_tried_for_ever(repositories: Repositories) -> None:
    deploy = {"name": "deploy", "run": ["sh", "-c", "test ! -e ../broken"], "rollback": True}
    await repositories.succeeds(repositories.settings(deploy))
    (repositories.folder / "broken").touch()
    repositories.push({"app": "1"})
    error = await repositories.fails(repositories.settings(deploy))
    assert f"returning to {repositories.first} failed, too" in error
    assert "not tried again" in await repositories.fails(repositories.settings(deploy))


async def test_what_a_failed_step_left_in_the_clone_is_never_thrown_away(repositories: Repositories) -> None:
    step = {"name": "messy", "run": ["sh", "-c", "test -e first || { echo mine > README; exit 1; }"], "rollback": True}
    repositories.push({"first": ""})
    await repositories.succeeds(repositories.settings(step))
    (repositories.dev / "first").unlink()
    bad = repositories.push()
    assert "because the step left changes in the clone" in await repositories.fails(repositories.settings(step))
    assert repositories.head == bad
    assert (repositories.hub / "README").read_text() == "mine\n"


@pytest.mark.parametrize("after", range(7))
async def test_a_failed_revision_is_returned_from_wherever_the_gateway_is_killed(
    repositories: Repositories, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    settings = repositories.settings(DEPLOY)
    good = repositories.push({"app": "good\n"})
    await repositories.succeeds(settings)
    bad = repositories.push({"app": "bad\n"})
    set_refs, done = Git.set_refs, 0

    async def set_refs_or_die(self: Git, changes: Mapping[str, str | None]) -> None:
        nonlocal done
        if done == after:
            raise KilledError
        done += 1
        await set_refs(self, changes)

    monkeypatch.setattr(Git, "set_refs", set_refs_or_die)
    with pytest.raises(KilledError):
        await repositories.reconcile(settings)
    monkeypatch.undo()
    assert f"returned to {good}" in await repositories.fails(settings, resumed=True)
    assert (repositories.head, await repositories.good(), await repositories.failed()) == (good, good, bad)
    assert deployed(repositories)[-1] == "good"


class KilledError(Exception):
    pass


@pytest.mark.parametrize("reset", [False, True])
async def test_a_way_back_that_was_cut_off_is_finished(repositories: Repositories, reset: bool) -> None:
    """The gateway may be killed before the branch is moved, or before the steps have run."""
    settings = repositories.settings(DEPLOY)
    good = repositories.push({"app": "good\n"})
    await repositories.succeeds(settings)
    bad = repositories.push({"app": "bad\n"})
    await repositories.fails(repositories.settings({**DEPLOY, "rollback": False}))
    git(repositories.hub, "update-ref", RETURNING, good)
    if reset:
        git(repositories.hub, "reset", "--quiet", "--keep", good)
    assert f"returned to {good}" in await repositories.fails(settings, resumed=True)
    assert (repositories.head, await repositories.failed()) == (good, bad)
    assert deployed(repositories) == ["good", "bad", "good"]
    assert "not tried again" in await repositories.fails(settings)


async def test_the_last_good_revision_is_kept_from_garbage_collection(repositories: Repositories) -> None:
    await repositories.succeeds(repositories.settings())
    assert git(repositories.hub, "rev-parse", GOOD) == repositories.first


# -- prepared steps ----------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for helm, kubectl and systemctl, which write down how they are called."""
    programs = tmp_path / "programs"
    programs.mkdir()
    calls = tmp_path / "calls"
    for name in ("helm", "kubectl", "systemctl"):
        (programs / name).write_text(
            f'#!/bin/sh\nprintf "%s" "{name}" >> {calls}\nfor a in "$@"; do printf " %s" "$a" >> {calls}; done\n'
            f"echo >> {calls}\n"
        )
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return calls


async def test_helm_upgrades_a_chart_of_the_repository(repositories: Repositories, calls: Path) -> None:
    repositories.push({"charts/web/Chart.yaml": "", "values/prod.yaml": ""})
    upgrade = {"release": "web", "chart": "charts/web", "namespace": "shop", "values": ["values/prod.yaml"]}
    await repositories.succeeds(repositories.settings({"helm_upgrade": upgrade, "timeout": "100s"}))
    assert said(calls) == (
        "helm upgrade --install --namespace shop --values values/prod.yaml --wait --timeout 90s -- web charts/web\n"
    )


@pytest.mark.parametrize(
    "step",
    [
        {"helm_upgrade": {"release": "web", "chart": "charts/web"}},
        {"kubectl_apply": {"path": "charts"}},
        {"kubectl_apply": {"path": "charts", "kustomize": True}},
    ],
)
@pytest.mark.parametrize("by_way_of", [False, True])
async def test_a_link_deep_in_what_is_rolled_out_is_not_followed_out_of_the_repository(
    repositories: Repositories, calls: Path, step: dict[str, Any], by_way_of: bool
) -> None:
    (repositories.folder / "secret").write_text("a secret of this machine")
    files = repositories.dev / ("elsewhere" if by_way_of else "charts/web/files")
    files.mkdir(parents=True)
    (files / "stolen").symlink_to(repositories.folder / "secret")
    if by_way_of:
        (repositories.dev / "charts/web").mkdir(parents=True)
        (repositories.dev / "charts/web/files").symlink_to("../../elsewhere")
    repositories.push({"charts/web/Chart.yaml": ""})
    assert "stolen is a link that leads out of the repository" in await repositories.fails(repositories.settings(step))
    assert not (repositories.folder / "calls").exists()


async def test_links_inside_of_the_repository_are_fine(repositories: Repositories, calls: Path) -> None:
    (repositories.dev / "charts/web").mkdir(parents=True)
    (repositories.dev / "charts/web/again").symlink_to("..")
    (repositories.dev / "charts/web/nowhere").symlink_to("gone")
    repositories.push({"charts/web/Chart.yaml": ""})
    await repositories.succeeds(repositories.settings({"helm_upgrade": {"release": "web", "chart": "charts/web"}}))


async def test_kubectl_applies_manifests(repositories: Repositories, calls: Path) -> None:
    repositories.push({"manifests/app.yaml": ""})
    await repositories.succeeds(
        repositories.settings(
            {"kubectl_apply": {"path": "manifests", "namespace": "shop"}},
            {"name": "overlay", "kubectl_apply": {"path": "manifests", "kustomize": True, "server_side": False}},
        )
    )
    assert said(calls) == (
        "kubectl apply --namespace shop --server-side --recursive --filename manifests\n"
        "kubectl apply --kustomize manifests\n"
    )


def said(calls: Path) -> str:
    return calls.read_text()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    target = tmp_path / "systemd"
    target.mkdir()
    return target


def installed(target: Path) -> list[str]:
    return sorted(path.name for path in target.iterdir())


def units(target: Path, **settings: Any) -> dict[str, Any]:
    allowed = ["web.service", "job@.service", "a.service", "home-*"]
    return {
        "systemd_units": {"source": "systemd", "target": str(target), "units": allowed, **settings},
        "rollback": True,
    }


async def test_units_that_changed_are_installed_and_restarted(
    repositories: Repositories, calls: Path, target: Path
) -> None:
    repositories.push({"systemd/web.service": "1", "systemd/job@.service": "1", "systemd/README": "not a unit"})
    await repositories.succeeds(repositories.settings(units(target)))
    assert installed(target) == ["job@.service", "web.service"]
    repositories.push({"systemd/web.service": "2"})
    await repositories.succeeds(repositories.settings(units(target)))
    assert (target / "web.service").read_text() == "2"
    repositories.push({"other": ""})
    await repositories.succeeds(repositories.settings(units(target)))
    assert said(calls) == (
        "systemctl daemon-reload\nsystemctl try-restart -- job@*.service web.service\n"
        "systemctl daemon-reload\nsystemctl try-restart -- web.service\n"
    )


async def test_units_are_of_the_users_systemd_where_asked_for(
    repositories: Repositories, calls: Path, target: Path
) -> None:
    repositories.push({"systemd/web.service": "1"})
    await repositories.succeeds(repositories.settings(units(target, user=True, restart="none")))
    assert said(calls) == "systemctl --user daemon-reload\n"


async def test_a_unit_that_somebody_changed_here_is_not_overwritten(
    repositories: Repositories, calls: Path, target: Path
) -> None:
    repositories.push({"systemd/web.service": "1", "systemd/a.service": "1"})
    await repositories.succeeds(repositories.settings(units(target)))
    (target / "web.service").write_text("mine")
    repositories.push({"systemd/web.service": "2", "systemd/a.service": "2"})
    assert "was changed on this machine" in await repositories.fails(repositories.settings(units(target)))
    assert (target / "web.service").read_text() == "mine"
    assert (target / "a.service").read_text() == "1"


async def test_a_unit_of_a_revision_that_failed_is_overwritten(
    repositories: Repositories, calls: Path, target: Path
) -> None:
    """Be it long since that it was the last to fail."""
    install = {**units(target), "rollback": False}
    settings = repositories.settings({"name": "before", "run": ["test", "!", "-e", "broken"]}, install,
        {"name": "after", "run": ["test", "!", "-e", "late"]})  # fmt: skip
    repositories.push({"systemd/web.service": "1"})
    await repositories.succeeds(settings)
    repositories.push({"systemd/web.service": "2", "late": ""})
    await repositories.fails(settings)
    (repositories.dev / "late").unlink()
    repositories.push({"systemd/web.service": "3", "broken": ""})
    await repositories.fails(settings)
    (repositories.dev / "broken").unlink()
    repositories.push()
    await repositories.succeeds(settings)
    assert (target / "web.service").read_text() == "3"


async def test_a_pushed_link_is_not_installed(repositories: Repositories, calls: Path, target: Path) -> None:
    (repositories.folder / "secret").write_text("a secret of this machine")
    (repositories.dev / "systemd").mkdir()
    (repositories.dev / "systemd/web.service").symlink_to(repositories.folder / "secret")
    repositories.push()
    assert "cannot be read, or is a link" in await repositories.fails(repositories.settings(units(target)))
    assert installed(target) == []


async def test_units_that_were_installed_by_a_gateway_that_was_killed_are_restarted(
    repositories: Repositories, calls: Path, target: Path
) -> None:
    repositories.push({"systemd/web.service": "1"})
    (target / "web.service").write_text("1")
    pending = repositories.hub / ".git/obs-hub/units-to-restart"
    pending.parent.mkdir()
    pending.write_text("web.service\n")
    await repositories.succeeds(repositories.settings(units(target)))
    assert said(calls) == "systemctl daemon-reload\nsystemctl try-restart -- web.service\n"
    assert not pending.exists()


async def test_units_that_may_not_be_installed_are_not_and_neither_are_those_beside_them(
    repositories: Repositories, calls: Path, target: Path
) -> None:
    repositories.push({"systemd/home-a.timer": "1", "systemd/sshd.service": "1"})
    error = await repositories.fails(repositories.settings(units(target)))
    assert "sshd.service in systemd is none of the units that may be installed" in error
    assert installed(target) == []
    assert list(calls.parent.glob(calls.name)) == []


async def test_returning_removes_the_units_that_the_failed_revision_added(
    repositories: Repositories, calls: Path, target: Path
) -> None:
    check = {"name": "check", "run": ["test", "!", "-e", "broken"], "rollback": True}
    settings = repositories.settings(units(target), check)
    repositories.push({"systemd/web.service": "1"})
    await repositories.succeeds(settings)
    before = said(calls)
    repositories.push({"systemd/home-a.service": "1", "systemd/web.service": "2", "broken": ""})
    assert "returned to" in await repositories.fails(settings)
    assert installed(target) == ["web.service"]
    assert (target / "web.service").read_text() == "1"
    assert said(calls).removeprefix(before) == (
        "systemctl daemon-reload\nsystemctl try-restart -- home-a.service web.service\n"
        "systemctl stop -- home-a.service\nsystemctl disable -- home-a.service\n"
        "systemctl daemon-reload\nsystemctl try-restart -- web.service\n"
    )


async def test_returning_removes_them_all_where_there_was_no_directory_before(
    repositories: Repositories, calls: Path, target: Path
) -> None:
    wanted = {**units(target), "when": {"changed": ["systemd/**"]}}
    settings = repositories.settings(wanted, {"name": "check", "run": ["test", "!", "-e", "broken"], "rollback": True})
    await repositories.succeeds(repositories.settings())
    repositories.push({"systemd/home-a.service": "1", "broken": ""})
    assert "returned to" in await repositories.fails(settings)
    assert installed(target) == []


async def test_a_unit_that_is_taken_out_of_the_repository_goes_unless_somebody_changed_it_here(
    repositories: Repositories, calls: Path, target: Path
) -> None:
    repositories.push({"systemd/web.service": "1", "systemd/home-a.service": "1", "systemd/home-b.service": "1"})
    await repositories.succeeds(repositories.settings(units(target)))
    (target / "home-b.service").write_text("mine")
    (target / "home-c.service").write_text("never ours")
    for name in ("home-a", "home-b"):
        (repositories.dev / f"systemd/{name}.service").unlink()
    repositories.push()
    progress = await repositories.succeeds(repositories.settings(units(target)))
    assert installed(target) == ["home-b.service", "home-c.service", "web.service"]
    assert "home-b.service is left: it was changed on this machine" in progress.output.text


@pytest.mark.parametrize("step", [{"run": ["cat", "notes"]}, {"kubectl_apply": {"path": "manifests"}},
    {"helm_upgrade": {"release": "web", "chart": "manifests"}}])  # fmt: skip
@pytest.mark.parametrize("to", [".git/config", "folder/../.git", ".GIT/config", ".git/new"])
async def test_a_pushed_link_into_git_is_followed_by_nobody(
    repositories: Repositories, calls: Path, step: dict[str, Any], to: str
) -> None:
    git(repositories.hub, "remote", "add", "other", "https://user:made-up-secret@git.example.com/x")
    (repositories.dev / "manifests").mkdir()
    for name in ("notes", "manifests/notes"):
        (repositories.dev / name).symlink_to(f"{'../' if '/' in name else ''}{to}")
    repositories.push({"folder/x": ""})
    outcome, progress = await repositories.reconcile(repositories.settings(step))
    assert "is a link that leads into .git" in str(outcome.error)
    assert "made-up-secret" not in progress.output.text


@pytest.mark.parametrize("step", [{"kubectl_apply": {"path": ".", "kustomize": True}},
    {"helm_upgrade": {"release": "web", "chart": "."}}])  # fmt: skip
async def test_a_program_that_reads_a_directory_whole_is_not_given_git(
    repositories: Repositories, calls: Path, step: dict[str, Any]
) -> None:
    repositories.push({"Chart.yaml": ""})
    assert "holds .git, which would be read with it" in await repositories.fails(repositories.settings(step))


async def test_credentials_of_the_remote_are_masked_in_what_steps_write(repositories: Repositories) -> None:
    git(repositories.hub, "remote", "add", "other", "https://user:made-up%2Fsecret@git.example.com/x")
    git(repositories.hub, "config", "http.https://git.example.com/.extraheader", "AUTHORIZATION: basic bWFkZS11cA==")
    repositories.push()
    step = {"run": ["sh", "-c", "cat .git/config; echo made-up/secret"]}
    progress = await repositories.succeeds(repositories.settings(step))
    assert "credentials in the open" in progress.output.text
    assert "git.example.com/x" in progress.output.text
    for secret in ("made-up%2Fsecret", "made-up/secret", "bWFkZS11cA=="):
        assert secret not in progress.output.text


async def test_a_repository_pushed_as_files_runs_nothing(repositories: Repositories, tmp_path: Path) -> None:
    """A folder that looks like a bare repository, whose config names a program that git would run."""
    ran = tmp_path / "ran"
    config = f'[core]\n\tbare = false\n\tworktree = /\n\tfsmonitor = "touch {ran}; false"\n'
    repositories.push({"inner/HEAD": "ref: refs/heads/main\n", "inner/config": config,
        "inner/refs/heads/.keep": "", "inner/objects/.keep": ""})  # fmt: skip
    step = {"run": ["sh", "-c", "git status || true"], "working_directory": "inner"}
    progress = await repositories.succeeds(repositories.settings(step))
    assert "safe.bareRepository" in progress.output.text
    assert not ran.exists()


async def test_a_hard_link_is_not_installed(repositories: Repositories, calls: Path, target: Path) -> None:
    repositories.push({"systemd/web.service": "1"})
    await repositories.succeeds(repositories.settings())
    os.link(repositories.hub / "systemd/web.service", repositories.folder / "other")
    error = await repositories.fails(repositories.settings(units(target)), force=True)
    assert "a file of several names" in error


async def test_programs_get_what_they_need_and_no_secret_of_the_hub(
    repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OBSHUB_WEBHOOK_SECRET", "BAO_SECRET_ID", "PGPASSWORD", "GITHUB_TOKEN"):
        monkeypatch.setenv(name, "made-up-secret")
    monkeypatch.setenv("KUBECONFIG", "/etc/kubeconfig")
    repositories.push()
    progress = await repositories.succeeds(repositories.settings({"run": ["env"]}))
    assert "KUBECONFIG=/etc/kubeconfig" in progress.output.text
    assert "made-up-secret" not in progress.output.text


@pytest.mark.parametrize("name", ["--x.service", "a/b.service", "x.conf", "new\nline.service", ".service", "a b.timer"])
def test_what_is_no_unit_name_is_none(name: str) -> None:
    assert not _UNIT.fullmatch(name)
