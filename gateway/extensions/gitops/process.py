"""Programs run for a repository: without a shell, with few variables, and never for longer than told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import IO

import psutil

from gateway.base.redaction import MASK

RUN_VARIABLE = "OBSHUB_RUN_ID"
"""Marks every process of a run, so that those that outlive their gateway are found again."""

_GRACE = 5.0
"""Seconds between asking a process group to end and ending it."""
_DRAIN = 1.0
"""Seconds that what a program wrote last may take to arrive once it has ended."""
_CHUNK = 64 * 1024


class ProgramError(Exception):
    """A program could not be started, or was ended. The message says which and why."""


class Redactor:
    """Masks secrets in a text that comes in pieces, wherever it is cut."""

    def __init__(self, secrets: Iterable[str], sink: Callable[[str], object]) -> None:
        self._secrets = sorted({secret for secret in secrets if len(secret) >= 4}, key=len, reverse=True)
        self._held = max((len(secret) for secret in self._secrets), default=1) - 1
        self._sink = sink
        self._rest = ""

    def add(self, text: str) -> None:
        """Take a piece, and pass on what can hold no beginning of a secret any more."""
        text = self._masked(self._rest + text)
        # A beginning of a secret may stand at the end; all the rest has been looked at.
        keep = next((n for n in range(min(self._held, len(text)), 0, -1) if self._begins(text[-n:])), 0)
        self._rest = text[len(text) - keep :]
        if passed := text[: len(text) - keep]:
            self._sink(passed)

    def close(self) -> None:
        """Pass on the rest."""
        rest, self._rest = self._rest, ""
        if rest:
            self._sink(rest)

    def _begins(self, text: str) -> bool:
        return any(secret.startswith(text) for secret in self._secrets)

    def _masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text


async def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    at_most: timedelta,
    sink: Callable[[bytes], object],
    stderr: Callable[[bytes], object] | None = None,
    stdin: bytes = b"",
) -> int:
    """Run a program and return its exit code. What it writes goes to the sinks; without ``stderr``, all to one.

    It gets a process group of its own, of which nothing is left when this returns or raises. Raises `ProgramError` when
    it cannot be started or takes too long.
    """
    # With pipes of asyncio's own, waiting for a program would be waiting for all who have inherited its output.
    async with contextlib.AsyncExitStack() as pipes:
        out, out_reader = await pipes.enter_async_context(_pipe(sink))
        error, error_reader = (out, None) if stderr is None else await pipes.enter_async_context(_pipe(stderr))
        readers = [reader for reader in (out_reader, error_reader) if reader is not None]
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *argv,
                cwd=cwd,
                env=dict(env),
                stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=error,
                start_new_session=True,
            )
        )
        try:
            # Broken off by itself, it would end the program, and nothing that the program has started already.
            process = await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.shield(_end_once_started(starting, env))
            raise
        except FileNotFoundError as missing:
            raise ProgramError(f"{argv[0]} cannot be run: there is no {missing.filename or argv[0]}") from None
        except (OSError, ValueError) as reason:
            raise ProgramError(f"{argv[0]} cannot be run: {reason}") from None
        out.close()
        error.close()
        if process.stdin is not None:
            process.stdin.write(stdin)
            process.stdin.close()
        try:
            async with asyncio.timeout(at_most.total_seconds()):
                return await process.wait()
        except TimeoutError:
            await _end(process, env)
            raise ProgramError(
                f"{argv[0]} took longer than {at_most.total_seconds():g} s and was ended, with all it had started"
            ) from None
        except asyncio.CancelledError:
            await asyncio.shield(_end(process, env))
            raise
        finally:
            _signal(process.pid, signal.SIGKILL)
            await asyncio.wait(readers, timeout=_DRAIN)


@contextlib.asynccontextmanager
async def _pipe(sink: Callable[[bytes], object]) -> AsyncIterator[tuple[IO[bytes], asyncio.Task[None]]]:
    """Make a pipe for the length of a block, and yield its end to write to, and the task that reads the other."""
    ours, theirs = (os.fdopen(end, mode, 0) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), ours
    )
    task = asyncio.create_task(_read(reader, sink))
    try:
        yield theirs, task
    finally:
        theirs.close()
        task.cancel()
        await asyncio.wait({task})
        transport.close()


async def _read(stream: asyncio.StreamReader, sink: Callable[[bytes], object]) -> None:
    while chunk := await stream.read(_CHUNK):
        sink(chunk)


async def _end_once_started(starting: asyncio.Future[asyncio.subprocess.Process], env: Mapping[str, str]) -> None:
    with contextlib.suppress(OSError, ValueError):
        process = await starting
        await _end(process, env)
        _signal(process.pid, signal.SIGKILL)


async def _end(process: asyncio.subprocess.Process, env: Mapping[str, str]) -> None:
    _signal(process.pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(_GRACE):
            await process.wait()
    except TimeoutError:
        _signal(process.pid, signal.SIGKILL)
        await process.wait()
    if (run_id := env.get(RUN_VARIABLE)) is not None:  # what has left the process group, as daemons do
        await asyncio.to_thread(end_leftovers, run_id)


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def end_leftovers(run_id: str) -> int:
    """End the processes that a run has left, and return how many there were. Blocks until they have ended.

    They are asked first: git takes its locks away then, and helm writes down that the upgrade under way is not.
    """
    left = found = _marked(run_id)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        _, alive = psutil.wait_procs(left, timeout=_GRACE)
        found = _marked(run_id)
        if not alive and not found:
            break
    return len(left)


def _marked(run_id: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(RUN_VARIABLE) == run_id:
                found.append(process)
    return found
