"""The program ``journalctl``: how it is called, and what comes out of it.

Two things it does are worked around. ``--after-cursor`` leaves an entry out when the one that the cursor names is gone,
so ``--cursor`` is used and the first entry compared. And ``--follow`` shows the current boot only (since systemd 250),
so everything there is is read without it first; where files are named, ``--merge`` and ``--boot=all`` undo that.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from gateway.base.child_environment import SYSTEMD, USER, environment
from gateway.base.rate_limited_log import RateLimitedLogger
from receivers.journald.config import JournaldConfig
from receivers.journald.conventions import ATTRIBUTES, OTHERS, RESOURCE
from receivers.journald.errors import JournalError
from receivers.journald.units import FIELDS, full_name, is_pattern

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

MAX_LINE = 32 * 2**20
"""Bytes of one entry. One that is larger is left out, for it would have to be held in memory."""

_CHUNK = 128 * 1024
_LAST_WORDS = 5
_PERMISSION = ("insufficient permissions", "not seeing messages", "Permission denied")
_END_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Found:
    """What is at a position: the cursor of the first entry from there on, or None when there is none."""

    cursor: str | None

    def missing(self, sought: str) -> int | None:
        """Return how many entries were lost before this one, None when it cannot be known.

        A cursor names the entry's number in a sequence (``i=``, hexadecimal) and that sequence (``s=``).
        """
        ours, theirs = _parts(sought), _parts(self.cursor or "")
        if ours.get("s") != theirs.get("s"):
            return None
        try:
            return max(int(theirs["i"], 16) - int(ours["i"], 16) - 1, 0)
        except (KeyError, ValueError):
            return None


class Journalctl:
    """Calls ``journalctl`` as the settings say.

    Raises `JournalError` when there is no such program.
    """

    def __init__(self, config: JournaldConfig) -> None:
        program = shutil.which(config.journalctl_path)
        if program is None:
            raise JournalError(
                f"{config.journalctl_path} is not there; the journal is read with it. Install systemd's journalctl "
                "(in a container: use an image that has it, and mount /var/log/journal), or set journalctl_path"
            )
        self._program = program
        self._where = _where(config)
        self._what = _what(config)
        self._follow = [
            "--follow",
            "--no-tail",
            *(["--merge", "--boot=all"] if config.directory or config.files else []),
        ]
        wanted = dict.fromkeys([*ATTRIBUTES, *RESOURCE, *OTHERS, *config.fields])
        self._fields = f"--output-fields={','.join(wanted)}"
        self._limited = RateLimitedLogger(_log)

    async def read(self, cursor: str | None, *, follow: bool) -> Stream:
        """Begin to read at a position, its entry included, or at the beginning. Raises `JournalError`."""
        arguments = [*self._where, self._fields, *self._what]
        if cursor is not None:
            arguments.append(f"--cursor={cursor}")
        return Stream(await self._start(*(self._follow if follow else []), *arguments), self._stderr)

    async def last(self) -> str | None:
        """Return the cursor of the last entry in the journal, whatever it is of. Raises `JournalError`."""
        return await self._one("--lines=1")

    async def find(self, cursor: str) -> Found:
        """Look what is at a position. Raises `JournalError`."""
        return Found(await self._one(f"--cursor={cursor}", "--lines=1"))

    async def _one(self, *arguments: str) -> str | None:
        stream = Stream(await self._start(*self._where, "--output-fields=_BOOT_ID", *arguments), self._stderr)
        try:
            lines = []
            while chunk := await stream.read():
                lines += chunk
            if failure := await stream.failure():
                raise JournalError(failure)
        finally:
            await stream.close()
        return str(msgspec.json.decode(lines[-1])["__CURSOR"]) if lines else None

    async def _start(self, *arguments: str) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                self._program,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=_CHUNK // 2,
                env=environment(*USER, *SYSTEMD, given={"LC_ALL": "C.UTF-8"}),
                start_new_session=True,  # Ctrl-C is for this process, which ends it when it is done with it
            )
        except OSError as error:
            raise JournalError(f"{self._program} cannot be started: {error}") from error

    def _stderr(self, line: str) -> None:
        """Log what it complains about."""
        advice = {}
        if any(each in line for each in _PERMISSION):
            to_do = "add the user that this runs as to the group systemd-journal (SupplementaryGroups= in a unit)"
            advice = {"what_to_do": to_do}
        self._limited.warning(line, "journalctl complains", complaint=line, **advice)


class Stream:
    """One run of ``journalctl``, entry by entry. Nothing is read ahead beyond the pipe and a chunk of bytes."""

    def __init__(self, process: asyncio.subprocess.Process, complain: Callable[[str], None]) -> None:
        self._process = process
        self._rest = bytearray()
        self._too_large = False
        self._closed = False
        self._last_words: list[str] = []
        self._complaints = asyncio.create_task(self._listen(complain))
        self.left_out = 0
        """Entries that were too large."""

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    async def read(self) -> list[bytes]:
        """Return the next entries, at least one, as JSON; an empty list at the end. May be cancelled."""
        assert self._process.stdout is not None
        while chunk := await self._process.stdout.read(_CHUNK):
            if b"\n" not in chunk:
                self._incomplete(chunk)
                continue
            lines = (self._rest + chunk).split(b"\n")
            if self._too_large:
                del lines[0]
            self._rest, self._too_large = bytearray(), False
            self._incomplete(lines.pop())
            # Anything else is said to people, such as "-- No entries --".
            if entries := [bytes(line) for line in lines if line.startswith(b"{")]:
                return entries
        return []

    def _incomplete(self, piece: bytes | bytearray) -> None:
        """Keep the beginning of an entry, unless that has become too much."""
        if self._too_large:
            return
        self._rest += piece
        if len(self._rest) > MAX_LINE:
            self._rest, self._too_large = bytearray(), True
            self.left_out += 1

    async def failure(self) -> str | None:
        """Wait for the end of the process. Return why it failed, or None when it did not."""
        code = await self._process.wait()
        await asyncio.shield(self._complaints)
        if code == 0 or self._closed:
            return None
        reason = " ".join(self._last_words) or ("killed" if code < 0 else "without a word")
        return f"journalctl ended with {code}: {reason}"

    async def close(self) -> None:
        """End the process, if it still runs."""
        self._closed = True
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                async with asyncio.timeout(_END_PATIENCE):
                    await self._drain()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._drain()
        await self._complaints

    async def _drain(self) -> None:
        """Wait for the end. What is in the pipe is dropped, for asyncio sees no end before it is read."""
        assert self._process.stdout is not None
        with contextlib.suppress(RuntimeError):  # somebody else reads, and will see the end
            while await self._process.stdout.read(_CHUNK):
                pass
        await self._process.wait()

    async def _listen(self, complain: Callable[[str], None]) -> None:
        assert self._process.stderr is not None
        while True:
            try:
                line = (await self._process.stderr.readline()).decode(errors="replace")
            except ValueError:  # longer than any message
                continue
            if not line:
                return
            if line.strip():
                self._last_words = [*self._last_words[1 - _LAST_WORDS :], line.strip()]
                complain(line.strip())


def _where(config: JournaldConfig) -> list[str]:
    arguments = ["--no-pager", "--output=json", "--all"]
    if config.directory is not None:
        arguments.append(f"--directory={config.directory}")
    if config.namespace is not None:
        arguments.append(f"--namespace={config.namespace}")
    return arguments + [f"--file={each}" for each in config.files]


def _what(config: JournaldConfig) -> list[str]:
    """Return the conditions that the journal can look up; which units entries are of is looked at again afterwards.

    Patterns of units would only stand for the units of now, and ``--user-unit`` for those of the user who asks.
    """
    arguments = [] if config.priority is None else [f"--priority={config.priority}"]
    matched = {match.partition("=")[0] for match in config.matches}
    if not config.units or any(map(is_pattern, config.units)) or matched.intersection(FIELDS):
        return arguments + list(config.matches)
    for field in FIELDS:
        arguments += [f"{field}={full_name(unit)}" for unit in config.units] + [*config.matches, "+"]
    return arguments[:-1]


def _parts(cursor: str) -> dict[str, str]:
    return {name: value for name, _, value in (part.partition("=") for part in cursor.split(";"))}
