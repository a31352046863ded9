"""A spool: a directory of segments, written at one end and read at the other.

Appending returns when the batch is on disk. Appends that come while one is being written wait together and share the
next write and its fsync. Reading follows in order; a segment is removed once everything in it was taken. Where reading
stands is noted in a file: after a crash some batches may be read again, never too few.

Every start begins a new segment, so what a crash left at the end of the last one is never written behind.

A full spool refuses, or makes room by dropping its oldest segment, as ``when_full`` says. What was dropped is logged,
and counted in the file ``dropped``.

The directory has one owner, who holds its lock. As long as another process does, this spool is empty, refuses, and
tries again whenever it is told to `open`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog

from gateway.base.crashpoints import crashpoint
from gateway.base.rate_limited_log import LogRateLimit
from gateway.base.settings import SpoolSettings
from gateway.component.batch import Batch
from gateway.component.errors import OverloadedError, UnavailableError
from gateway.files.durability import create, sync
from gateway.files.ownership import DirectoryInUseError, DirectoryLock
from gateway.pipeline.spool.dropped import Dropped, note_dropped, read_dropped
from gateway.pipeline.spool.losses import Loss, read_losses, write_loss
from gateway.pipeline.spool.position import Position, name_of, read_position, write_position
from gateway.pipeline.spool.recovery import DAMAGED, Segment, cut_short, find, read_file, segments
from gateway.pipeline.spool.segment import (
    HEADER_SIZE,
    Damage,
    Head,
    Record,
    digests,
    encode,
    encode_head,
    record_size,
    scan,
)

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
_T = TypeVar("_T")

_LEAST_SEGMENTS = 8
"""Of how many segments, at least, a full spool consists that drops the oldest."""


@dataclass(slots=True, frozen=True)
class SpoolStatus:
    """What a spool directory holds: bytes and segments on disk that are to be delivered.

    ``taken`` is the number of segments that were delivered and are still there, ``losses`` what was found to be lost,
    ``dropped`` what was dropped because it was full.
    """

    directory: Path
    size: int
    segments: int
    taken: int = 0
    losses: tuple[Loss, ...] = ()
    dropped: Dropped = field(default_factory=Dropped)


@dataclass(slots=True)
class _Chunk:
    """Records read together. Reading goes on at ``offset`` of ``segment``."""

    batches: list[Batch] = field(default_factory=list)
    segment: Segment | None = None
    offset: int = 0


class Spool:
    """One spool. Its methods are called on one event loop; files are touched in one thread of its own.

    ``damaged`` counts the places at which something was lost, ``unremoved`` the segments that were taken and cannot be
    removed.
    """

    def __init__(self, directory: Path, settings: SpoolSettings) -> None:
        self.directory = directory
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._lock = DirectoryLock(directory)
        self._is_open = False
        self._segments: list[Segment] = []
        self._file: int | None = None  # of the last segment, when it is open for appending
        self._number = 0
        self._offset = 0  # in the first segment, from which on is to be read
        self._taken: list[Path] = []  # to be removed
        self._noted: Position | None = None
        self._size = 0
        self._claimed = 0  # bytes of appends that are not on disk yet
        self._reserved = 0  # bytes of appends that may come yet
        self._waiting: list[tuple[Batch, asyncio.Future[None]]] = []
        self._appending: asyncio.Task[None] | None = None
        self._reported: set[str] = set()
        self._thread_ended = False
        self._drops = settings.when_full == "drop_oldest"
        # A segment is what is dropped at once.
        self._segment_size = settings.max_size // _LEAST_SEGMENTS if self._drops else settings.segment_size
        self._segment_size = min(self._segment_size, settings.segment_size)
        self._dropping = LogRateLimit()
        self.damaged = 0
        self.dropped = Dropped()
        self.unremoved = 0

    # -- state ---------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Bytes on disk, and about to be."""
        return self._size + self._claimed

    @property
    def unread(self) -> int:
        """Bytes on disk that were not taken yet."""
        return self._size - self._offset

    @property
    def empty(self) -> bool:
        """Whether everything appended was taken, and nothing is being appended."""
        return not self._claimed and all(
            segment.end <= (self._offset if index == 0 else 0) for index, segment in enumerate(self._segments)
        )

    @property
    def is_open(self) -> bool:
        """Whether this is the owner of the directory. One that is not there yet is made by the first append."""
        return self._is_open

    # -- life ----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Become the owner of the directory, and find what an earlier run left.

        A directory that cannot be used, or that another process still owns, is no error yet: appends will say so, and
        this is to be called again. What could not be removed is then tried again, too.
        """
        await self._in_thread(self._try_to_open)

    async def close(self) -> None:
        """Finish the appends under way, close the files and let others own the directory."""
        if self._appending is not None:
            await self._appending
        if not self._thread_ended:
            await self._in_thread(self._finish)
            self._thread_ended = True
            self._thread.shutdown()

    def _finish(self) -> None:
        self._trim()
        self._close_file()
        self._lock.release()
        self._is_open = False

    def _try_to_open(self) -> None:
        if self._is_open:
            if self._taken:
                self._trim()
            return
        if not self.directory.exists():
            return
        try:
            self._take()
        except DirectoryInUseError as error:
            self._say_once(_log.warning, "the spool waits for its former owner", error)
        except OSError as error:
            self._say_once(_log.error, "the spool cannot be used", error)

    def _say_once(self, log: Callable[..., object], event: str, error: OSError) -> None:
        why = error.strerror or str(error)
        if why not in self._reported:
            self._reported.add(why)
            log(event, spool=str(self.directory), reason=why)

    def _take(self) -> None:
        """Own the directory and find what is in it. Raises `OSError`, of which `DirectoryInUseError` is one."""
        self._lock.acquire()
        try:
            found = find(self.directory)
        except BaseException:
            self._lock.release()
            raise
        self._number, self._taken = found.number, found.taken
        # In this order, because `empty` is asked from another thread.
        self._offset = found.offset
        self._segments = found.segments
        self._size = sum(segment.end for segment in found.segments)
        self._reported |= {loss.place for loss in read_losses(self.directory)}
        self.dropped = read_dropped(self.directory)
        self._is_open = True
        if self._size:
            _log.info("the spool holds batches from an earlier run", spool=str(self.directory), bytes=self._size)
        if found.torn:
            _log.warning("cut off what a crash left", segment=str(found.segments[-1].path), bytes=found.torn)
        for place, what in found.losses:
            self._lose(place, what)
        self._trim()

    def _lose(self, place: str, what: str) -> None:
        """Tell of a loss, once: in the log, in ``damaged``, and in a file for who looks later."""
        if place in self._reported:
            return
        self._reported.add(place)
        self.damaged += 1
        _log.error("the spool lost data", spool=str(self.directory), place=place, loss=what)
        write_loss(self.directory, place, what)

    # -- appending -----------------------------------------------------------------------------------------------

    @property
    def drops(self) -> bool:
        """Whether it drops the oldest when it is full, and whatever the disk does not take: it never refuses."""
        return self._drops

    def reserve(self, batch: Batch) -> int:
        """Keep room for a batch that is to be appended, and return how much. Raises `OverloadedError` when it is full.

        Whoever reserves gives it back with `release`, before the append or instead of it.
        """
        size = record_size(batch)
        if not self._drops and self.size + self._reserved + size + HEADER_SIZE > self._settings.max_size:
            raise OverloadedError(
                f"the spool holds {self.size} bytes, of at most {self._settings.max_size}; "
                "it empties when the destination answers again",
                retry_after=5,
            )
        self._reserved += size
        return size

    def release(self, size: int) -> None:
        """Give back what was reserved."""
        self._reserved -= size

    async def append(self, batch: Batch, *, again: bool = False) -> None:
        """Return when the batch is on disk. Raises `OverloadedError` when the spool is full.

        Raises `UnavailableError` when the disk does not take it; nothing is kept of the batch then. One that drops the
        oldest raises neither. ``again``: it is there already, further ahead, and about to be taken; there is room.
        """
        size = record_size(batch)
        if not again:
            self.release(self.reserve(batch))
        self._claimed += size
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((batch, done))
        if self._appending is None or self._appending.done():
            self._appending = asyncio.create_task(self._append_waiting())
        try:
            await asyncio.shield(done)
        finally:
            done.add_done_callback(lambda future: future.cancelled() or future.exception())

    async def _append_waiting(self) -> None:
        while self._waiting:
            taken = self._take_waiting()
            sizes = sum(record_size(batch) for batch, _ in taken)
            try:
                await self._in_thread(lambda: self._write([batch for batch, _ in taken]))  # noqa: B023 - awaited here
            except Exception as error:
                why = f"the spool cannot be written: {getattr(error, 'strerror', None) or error}"
                if self._drops and isinstance(error, OSError):
                    await self._in_thread(functools.partial(self._note_dropped, [batch for batch, _ in taken], why))
                    for _, done in taken:
                        done.set_result(None)
                    continue
                # Whatever it is, those who wait must hear of it.
                if not isinstance(error, OSError):
                    _log.exception("the spool cannot be written", spool=str(self.directory))
                refusal = UnavailableError(why, retry_after=5)
                for _, done in taken:
                    done.set_exception(refusal)
            else:
                for _, done in taken:
                    done.set_result(None)
            finally:
                self._claimed -= sizes

    def _take_waiting(self) -> list[tuple[Batch, asyncio.Future[None]]]:
        """Take what waits to be written: all, or where the oldest is dropped as much as a segment holds."""
        count = size = 0
        for batch, _ in self._waiting:
            size += record_size(batch)
            if self._drops and count and size > self._segment_size:
                break
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    def _write(self, batches: Sequence[Batch]) -> None:
        """Write records and make them durable, or leave the segment as it was."""
        data = b"".join(map(encode, batches))
        if self._drops:
            if len(data) > self._settings.max_size:
                raise OSError(errno.EFBIG, f"one batch of {len(data)} bytes, of at most {self._settings.max_size}")
            self._make_room(len(data))
        try:
            file = self._open_for(len(data))
            segment = self._segments[-1]
            if not segment.end and len(self._segments) > 1:
                before = self._segments[-2]
                data = encode_head(before.number, before.end) + data
            crashpoint("before spool write")
            _write_all(file, data)
            crashpoint("after spool write")
            if self._settings.fsync == "always":
                os.fdatasync(file)
            crashpoint("after spool fsync")
        except OSError:
            self._abandon()
            raise
        segment.end += len(data)
        self._size += len(data)

    def _open_for(self, size: int) -> int:
        """Return the file to append to, a new segment when there is none or the last is full or gone."""
        if self._file is not None:
            segment = self._segments[-1]
            there = self._lock.held and segment.path.exists()
            if there and segment.end + size <= max(self._segment_size, size):
                return self._file
            if not there:
                _log.error("a segment of the spool was removed; what it held is lost", segment=str(segment.path))
            self._close_file()
        self._own()
        path = self.directory / name_of(self._number + 1)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._number += 1
        self._segments.append(Segment(self._number, path, 0, exact=True))
        sync(self.directory)
        return self._file

    def _own(self) -> None:
        """Make sure that the directory is there and this its owner, also when somebody removed it. Raises `OSError`."""
        if self._lock.held:
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._is_open:
            self._take()
            return
        self._lock.acquire()
        self._noted = None
        self._number = max([self._number, *(int(path.stem) for path in segments(self.directory))])

    def _make_room(self, size: int) -> None:
        """Drop the oldest segments until there is room for so many bytes."""
        while self._segments and self._size + size > self._settings.max_size:
            segment, start = self._segments[0], self._offset
            left: list[Batch] = []
            with contextlib.suppress(OSError):
                data = read_file(segment.path, start, segment.end)
                left = [item.batch for item in scan(data) if isinstance(item, Record)]
            if left:
                # Noted first: what a crash in between lets be delivered was counted once too often, never too seldom.
                self._note_dropped(left, f"it holds {self._size} bytes, of at most {self._settings.max_size}")
            self._offset = segment.end
            self._trim()

    async def drop(self, batch: Batch, why: str) -> None:
        """Count a batch among those that were dropped, though it never was in here or is about to be taken."""
        await self._in_thread(functools.partial(self._note_dropped, [batch], why))

    def _note_dropped(self, batches: Sequence[Batch], why: str) -> None:
        self.dropped = note_dropped(self.directory, self.dropped, batches)
        if dropped := self._dropping.count(len(batches)):
            _log.error(
                "the spool drops the oldest batches: they will not reach their destination",
                spool=str(self.directory),
                batches=dropped,
                records_in_all=self.dropped.records,
                reason=why,
            )

    def _abandon(self) -> None:
        """Cut off a write that failed, and append no more to that segment: what its file now holds is not certain."""
        if self._file is None:
            return
        segment = self._segments[-1]
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, segment.end)
        self._close_file()
        if segment.end == 0:
            self._segments.pop()
            with contextlib.suppress(OSError):
                segment.path.unlink()
                self._number = min(self._number, segment.number - 1)  # so that no number is missing

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    # -- reading -------------------------------------------------------------------------------------------------

    async def read(self, most_bytes: int) -> tuple[list[Batch], Callable[[], None]]:
        """Return the oldest batches, about as many bytes as asked for, at least one; and what to call once taken.

        What is damaged is set aside, logged and counted in ``damaged``. An empty list: there is nothing to read. Raises
        `UnavailableError` when the disk cannot be read at the moment.
        """
        while not self.empty:
            chunk = await self._in_thread(lambda: self._read(most_bytes))
            if chunk.batches:
                return chunk.batches, functools.partial(self._took, chunk)
            self._took(chunk)
            if chunk.segment is None:
                break
            await self.trim()
        return [], lambda: None

    async def digests(self) -> list[bytes]:
        """Return the digests of what it holds, oldest first. Payloads are not read."""
        return await self._in_thread(self._digests)

    def _digests(self) -> list[bytes]:
        found: list[bytes] = []
        for index, segment in enumerate(self._segments):
            with contextlib.suppress(OSError), segment.path.open("rb") as file:
                found += digests(file, self._offset if index == 0 else 0, segment.end)
        return found

    async def trim(self) -> None:
        """Remove what was taken. Call it after batches were taken; a crash before it makes them be read again."""
        await self._in_thread(self._trim)

    def _took(self, chunk: _Chunk) -> None:
        if chunk.segment is not None and self._segments and self._segments[0] is chunk.segment:
            self._offset = chunk.offset

    def _read(self, most_bytes: int) -> _Chunk:
        self._trim()
        if not self._segments:
            return _Chunk()
        try:
            self._own()
        except DirectoryInUseError as error:  # somebody replaced the directory: what is in it now is another's
            raise UnavailableError(f"the spool cannot be read: {error.strerror}", retry_after=1) from error
        except OSError:
            pass  # reading says the same
        segment, end = self._segments[0], self._segments[0].end
        chunk = _Chunk([], segment, self._offset)
        try:
            data = read_file(segment.path, self._offset, end)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.ENOENT):
                # Too many open files, say: that passes, and what passes must not cost a segment.
                raise UnavailableError(f"the spool cannot be read: {error.strerror}", retry_after=1) from error
            self._lose(segment.path.name, f"the segment cannot be read and is set aside: {error.strerror}")
            with contextlib.suppress(OSError):
                folder = self.directory / DAMAGED
                folder.mkdir(exist_ok=True)
                segment.path.rename(folder / segment.path.name)
            chunk.offset = end
            return chunk
        missing = end - self._offset - len(data)
        size = 0
        for item in scan(data):
            if isinstance(item, Damage):
                if item.torn and chunk.batches:
                    break  # looked at again, and reported, when the batches before it were taken
                if not (item.torn and missing):  # which is told below
                    self._set_aside(segment, data, item)
                chunk.offset = self._offset + item.end
            elif isinstance(item, Head):
                chunk.offset = self._offset + item.end
            else:
                if chunk.batches and size + len(item.batch.payload) > most_bytes:
                    break
                chunk.batches.append(item.batch)
                size += len(item.batch.payload)
                chunk.offset = self._offset + item.end
        if missing and not chunk.batches:
            self._lose(*cut_short(segment, missing))
            chunk.offset = end
        return chunk

    def _set_aside(self, segment: Segment, data: bytes, damage: Damage) -> None:
        """Keep damaged bytes for a person to look at. A torn end is what a crash leaves, and was not acknowledged."""
        start, size = self._offset + damage.start, damage.end - damage.start
        if damage.torn and not segment.exact:
            where = f"{segment.path} at {start}"
            if where not in self._reported:
                self._reported.add(where)
                _log.warning("cut off what a crash left", segment=str(segment.path), at=start, bytes=size)
            return
        place = f"{segment.path.name} at {start}"
        if place in self._reported:
            return  # read again, because what was read with it was not taken
        self._lose(place, f"{size} bytes are damaged and set aside")
        with contextlib.suppress(OSError):
            folder = self.directory / DAMAGED
            folder.mkdir(exist_ok=True)
            with os.fdopen(create(folder / f"{segment.path.stem}-{start}"), "wb") as file:
                file.write(data[damage.start : damage.end])

    def _trim(self) -> None:
        while self._segments and self._offset >= self._segments[0].end:
            segment = self._segments[0]
            if self._file is not None and len(self._segments) == 1:
                self._close_file()
            # In this order, because `empty` is asked from another thread.
            self._offset = 0
            self._segments.pop(0)
            self._size -= segment.end
            self._taken.append(segment.path)
        # What was taken is noted before it is removed: one that stays must not be delivered again by the next start.
        if not self._lock.held:
            return
        noted = self._note_position()
        crashpoint("before spool truncate")
        if self._remove_taken() and not noted:
            self._note_position()  # now that there is space again

    def _note_position(self) -> bool:
        """Write down where reading stands. Returns whether that is on disk."""
        taken = frozenset(int(path.stem) for path in self._taken)
        first, last = (self._segments[0], self._segments[-1]) if self._segments else (None, None)
        position = Position(
            first.number if first else self._number + 1,
            self._offset,
            (last.number, last.end) if last and last.exact else None,
            taken,
        )
        if position == self._noted:
            return True
        try:
            write_position(self.directory, position, durable=bool(taken) and self._settings.fsync == "always")
        except OSError:
            self._noted = None
            return False
        self._noted = position
        return True

    def _remove_taken(self) -> bool:
        """Remove the segments that were taken. Returns whether any was."""
        removed = False
        for path in list(self._taken):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                if str(path) not in self._reported:
                    self._reported.add(str(path))
                    again = "" if self._noted else "; the next start delivers it again, should it still be there"
                    _log.error(
                        f"a segment was delivered and cannot be removed{again}",
                        segment=str(path),
                        reason=error.strerror,
                    )
                continue
            self._taken.remove(path)
            removed = True
        self.unremoved = len(self._taken)
        return removed

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)


def status(directory: Path) -> SpoolStatus:
    """Look at a spool directory from outside, also while a gateway uses it."""
    position = read_position(directory)
    done = position.taken if position else frozenset()
    sizes = []
    taken = 0
    for path in segments(directory):
        if int(path.stem) in done:
            taken += 1
            continue
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return SpoolStatus(directory, sum(sizes), len(sizes), taken, tuple(read_losses(directory)), read_dropped(directory))


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.write(file, view)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[written:]
