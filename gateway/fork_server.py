"""Processes that are forked from one that has imported everything and opened nothing.

A new interpreter takes longer to import what a worker of a hub needs than to do anything else, and keeps a copy of it.
A fork has it at once, and shares the memory. It must have nothing else of its parent: no threads, event loops,
connections or locks of files. So the server is forked before there are any, and forks whatever is wanted later.
Where that is not possible, there is none: see `begin`. `docs/decisions/0101` says why it is not the standard library's.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import Any, cast

import structlog

from gateway.base.collector import keep_what_is_loaded
from gateway.base.process_name import name_process
from gateway.parent import end_with_parent

Target = Callable[..., None]
"""What runs in each process: it is given the arguments of `ForkServer.fork`, in their order, and the connection."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TASKS = Path("/proc/self/task")


class ForkedProcess:
    """A process that the server forks, with as much of `multiprocessing.Process` as its owner needs.

    It is used on the event loop that `ForkServer.fork` was called on.
    """

    def __init__(self, signal_it: Callable[[signal.Signals], None]) -> None:
        self.pid: int | None = None
        """Known soon after the start."""
        self.exitcode: int | None = None
        """Negative for a signal; None while it runs."""
        self._signal = signal_it
        self._end = asyncio.Event()

    def is_alive(self) -> bool:
        """Tell whether it has not ended."""
        return self.exitcode is None

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    async def ended(self) -> None:
        """Return when it has ended."""
        await self._end.wait()

    def end(self, code: int) -> None:
        """Note how it ended."""
        self.exitcode = code
        self._end.set()


class ForkServer:
    """A process that forks others, each of which runs ``target``.

    First it calls ``prepare``, which may import modules: then none of the others has to. It ends with the process that
    made it, and they with it, also when that is killed: the kernel sees to it.
    """

    def __init__(self, target: Target, prepare: Callable[[], None]) -> None:
        """Fork the server. For `begin`, which knows whether that is safe."""
        self._processes: dict[int, ForkedProcess] = {}
        self._forked = 0
        self._followed = False
        self._connection, theirs = multiprocessing.Pipe()
        # Whoever stops a hub may signal all of its processes. The server ends when nobody needs it any more, and must
        # not be interrupted before it has said so.
        former = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        try:
            self._server = multiprocessing.get_context("fork").Process(
                target=_serve, args=(target, prepare, theirs, self._connection, former)
            )
            self._server.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, former)
        theirs.close()

    @classmethod
    def begin(cls, target: Target, prepare: Callable[[], None]) -> ForkServer | None:
        """Fork the server; None where forking is not safe.

        That is so on other systems than Linux, where libraries of the system do not bear it and the kernel does not end
        processes with their parent, and in a process with threads: a lock that one of them holds would stay locked.
        """
        if sys.platform != "linux" or len(list(_TASKS.iterdir())) != 1:
            return None
        return cls(target, prepare)

    @property
    def pid(self) -> int | None:
        """The number of the server's process."""
        return self._server.pid

    def fork(self, connection: Connection, *arguments: Any) -> ForkedProcess:
        """Have a process forked that runs the target with these arguments and its own copy of the connection.

        Raises `OSError` when the server has ended.
        """
        self._follow()
        key = self._forked = self._forked + 1
        self._connection.send((key, arguments))
        send_handle(self._connection, connection.fileno(), self.pid)
        process = self._processes[key] = ForkedProcess(lambda number: self._signal(key, number))
        return process

    def close(self) -> None:
        """End the server, once all that it forked has ended."""
        self._connection.close()
        self._server.join()

    def _signal(self, key: int, number: signal.Signals) -> None:
        """Have the server send a signal, since only a parent knows that the number is still that of its child."""
        if key in self._processes:
            with contextlib.suppress(OSError):  # the server ended, and what it forked with it
                self._connection.send((key, number))

    def _follow(self) -> None:
        if not self._followed:
            asyncio.get_running_loop().add_reader(self._connection.fileno(), self._read)
            self._followed = True

    def _read(self) -> None:
        try:
            while self._connection.poll():
                key, pid, code = self._connection.recv()
                if code is None:
                    self._processes[key].pid = pid
                else:
                    self._processes.pop(key).end(code)
        except (EOFError, OSError):
            # It was killed, and what it forked with it.
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
            while self._processes:
                self._processes.popitem()[1].end(-signal.SIGKILL)


def _serve(
    target: Target, prepare: Callable[[], None], owner: Connection, owners: Connection, mask: set[signal.Signals]
) -> None:
    """Fork and signal processes as the owner asks for, and tell it how they end, until it is gone."""
    end_with_parent()
    name_process("obs-hub-forks")
    owners.close()
    try:
        prepare()
    except Exception as error:  # each process finds out for itself, and says so to whom it concerns
        _log.debug("not everything could be prepared for what is forked", reason=str(error))
    gc.collect()
    keep_what_is_loaded()  # what the collector never looks at is never copied for it
    context = multiprocessing.get_context("fork")
    running: dict[int, tuple[int, BaseProcess]] = {}  # sentinel: key of the owner's, process
    while True:
        for ready in wait([owner, *running]):
            if ready is not owner:
                key, process = running.pop(cast(int, ready))
                process.join()
                owner.send((key, process.pid, process.exitcode))
                process.close()
                continue
            try:
                key, wanted = owner.recv()
            except (EOFError, ConnectionError):
                return
            if isinstance(wanted, signal.Signals):
                for its_key, process in running.values():
                    if its_key == key and process.pid is not None:
                        os.kill(process.pid, wanted)
                continue
            handle = recv_handle(owner)
            process = context.Process(target=_run, args=(target, owner, handle, wanted, mask), daemon=True)
            try:
                process.start()
            except OSError as error:
                _log.error("no process can be forked", reason=str(error))
                owner.send((key, None, os.EX_OSERR))
                continue
            finally:
                os.close(handle)
            running[process.sentinel] = key, process
            owner.send((key, process.pid, None))


def _run(target: Target, owner: Connection, handle: int, arguments: tuple[Any, ...], mask: set[signal.Signals]) -> None:
    owner.close()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    target(*arguments, Connection(handle))
