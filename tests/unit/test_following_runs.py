"""Following a run: through a restart of the hub, but not for ever."""

from __future__ import annotations

import dataclasses
import uuid
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from gateway.cli import runs as cli_runs
from gateway.cli.runs import follow
from gateway.runs import Run, Runs, RunState, RunsUnavailableError

IDENTITY = uuid.uuid4()


def run(state: RunState, output: str = "") -> Run:
    return Run(IDENTITY, "gitops", "home", state, {}, datetime.now(UTC), output=output)


class Answers:
    """Runs that answer in this order; the last answer stays."""

    def __init__(self, *answers: Run | Exception) -> None:
        self._answers = list(answers)

    async def get(self, identity: uuid.UUID) -> Run:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


AWAY = RunsUnavailableError("PostgreSQL is not available")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_runs, "_LOOK_AGAIN", 0.001)


async def test_what_a_run_writes_is_shown_once_through_a_restart(capsys: pytest.CaptureFixture[str]) -> None:
    running = run(RunState.RUNNING, "one\n")
    answers = Answers(running, running, AWAY, AWAY, run(RunState.SUCCEEDED, "one\ntwo\n"))
    ended = await follow(cast("Runs", answers), IDENTITY, "hint")
    assert ended.state is RunState.SUCCEEDED
    assert capsys.readouterr().err == "one\nPostgreSQL is not available; waiting for it\ntwo\n"


async def test_what_a_run_writes_does_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    pushed = "\x1b[31mred\x1b[0m\n\x1b]0;a title\x07 \x1b[2J100%\r\n"
    ended = run(RunState.FAILED, pushed)
    await follow(cast("Runs", Answers(ended)), IDENTITY, "hint")
    cli_runs.show_run(ended, "text")
    cli_runs.show_end(dataclasses.replace(ended, error="\x1b[2Jgone"))
    written = capsys.readouterr()
    assert written.err == "red\n\\x1b]0;a title\\x07 \\x1b[2J100%\n"
    assert written.out.endswith(f"\n\n{written.err}home: failed: \\x1b[2Jgone\n")


async def test_a_store_that_stays_away_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_runs, "_AWAY_SECONDS", 0.01)
    with pytest.raises(RunsUnavailableError):
        await follow(cast("Runs", Answers(run(RunState.QUEUED), AWAY)), IDENTITY, "hint")


async def test_a_run_that_nobody_takes_is_explained_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli_runs, "_HINT_AFTER", 0.0)
    waiting: Any = [run(RunState.QUEUED)] * 3
    await follow(cast("Runs", Answers(*waiting, run(RunState.FAILED))), IDENTITY, "Is there a hub?")
    assert capsys.readouterr().err == f"the run {IDENTITY} still waits. Is there a hub?\n"
