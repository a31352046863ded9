"""A function of a user's as a processor. It runs in a thread of its own, one batch at a time, for a bounded time.

Python cannot end a thread. What it can is have an exception raised in one, which ends whatever runs Python; only what
waits within a library for ever is beyond that. Then batches are refused until it returns, and their senders keep them.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import inspect
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import structlog

from gateway.base.rate_limited_log import LogRateLimit
from gateway.base.slices import at_once
from gateway.component.batch import ACCEPTED, Batch, Outcome, Signal
from gateway.component.declaration import Context
from gateway.component.errors import UnavailableError
from gateway.component.interfaces import Processed
from gateway.processors.common.editing import Edited, Editor, Verdict, edit
from gateway.processors.common.messages import RESOURCE, SCOPE
from gateway.processors.common.processor import processed
from gateway.processors.python.config import PythonConfig
from gateway.processors.python.records import DataPoint, LogRecord, Record, Span, Surroundings

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Function = Callable[[Any], bool | None]

_GRACE = 1.0
"""Seconds that a function is given to end once it was broken off."""


class FunctionError(Exception):
    """A function that there is not, or that is none."""


class _TimeUpError(BaseException):
    """Is raised in a function whose time is up. Nobody who catches an `Exception` catches it."""


def load(config: PythonConfig) -> Function:
    """Return the function that settings name. Raises `FunctionError`."""
    module_name, _, name = config.function.partition(":")
    if config.path is not None and str(config.path) not in sys.path:
        sys.path.append(str(config.path))
    try:
        function: Any = getattr(import_module(module_name), name)
    except Exception as error:
        raise FunctionError(f"the function {config.function} cannot be loaded: {error!r}") from error
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise FunctionError(f"{config.function} is no function that can be called with a record")
    loaded: Function = function
    return loaded


class Python:
    """Gives records to a function."""

    def __init__(self, name: str, config: PythonConfig, context: Context) -> None:
        self._name = name
        self._config = config
        self._context = context
        self._timeout = config.timeout.total_seconds()
        self._function: Function | None = None
        self._thread = ThreadPoolExecutor(1, f"processor-{name}")
        self._turn = asyncio.Lock()
        self._stuck: asyncio.Future[Any] | None = None
        self._told = LogRateLimit()

    @property
    def name(self) -> str:
        """The component's name in the configuration."""
        return self._name

    async def start(self) -> None:
        """Load the function. Raises `FunctionError`."""
        self._function = await asyncio.to_thread(load, self._config)

    async def stop(self) -> None:
        """End the thread, unless the function does not return."""
        self._thread.shutdown(wait=self._stuck is None, cancel_futures=True)

    async def process(self, batch: Batch) -> Processed:
        """Give each record of a batch to the function. Raises `UnavailableError` while it does not return."""
        assert self._function is not None, "it was started"
        async with self._turn:
            if self._stuck is not None:
                raise UnavailableError(f"the function of {self._name} does not return")
            calling = _Calling(self._function, self._config.on_error, batch.signal, self._timeout)
            run = asyncio.get_running_loop().run_in_executor(self._thread, functools.partial(calling.run, batch))
            done, _ = await asyncio.wait({run}, timeout=self._timeout)
            if not done:
                calling.break_off()
                done, _ = await asyncio.wait({run}, timeout=_GRACE)
            if not done:
                self._stuck = run
                run.add_done_callback(self._returned)
                _log.error("the function of a processor does not return; batches are refused", processor=self._name)
                raise UnavailableError(f"the function of {self._name} does not return")
            result = run.result()
        outcome = self._failures(calling, batch.signal)
        made = processed(batch, result)
        return Processed(made.batch, made.dropped - calling.rejected, outcome)

    def _returned(self, run: asyncio.Future[Any]) -> None:
        self._stuck = None
        if not run.cancelled():
            run.exception()  # it was answered for

    def _failures(self, calling: _Calling, signal: Signal) -> Outcome:
        """Tell of the records on which the function failed; return what their sender is told."""
        if not calling.failed:
            return ACCEPTED
        if count := self._told.count(calling.failed):
            _log.warning(
                "the function of a processor failed",
                processor=self._name,
                pipeline=self._context.pipeline,
                records=count,
                why=calling.why,
            )
        if not calling.rejected:
            return ACCEPTED
        return Outcome(
            calling.rejected, f"{calling.rejected} {signal.records} were left out: {self._name} failed: {calling.why}"
        )


class _Calling(Editor):
    """Calls a function with each record of one batch, in a thread."""

    def __init__(self, function: Function, on_error: str, signal: Signal, seconds: float) -> None:
        self._function = function
        self._on_error = on_error
        self._signal = signal
        self._until = time.monotonic() + seconds
        self._around = Surroundings()
        self._metric: Any = None
        self._kind = ""
        self._thread: int | None = None
        self._calls = threading.Lock()
        self._is_over = False
        self.failed = self.rejected = 0
        self.why = ""

    def run(self, batch: Batch) -> Edited:
        """Go through a batch."""
        return at_once(edit(batch, self))

    def break_off(self) -> None:
        """Have the call that is under way end, and no other begin. For another thread."""
        with self._calls:
            self._is_over = True
            if self._thread is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(_TimeUpError))

    def resource(self, resource: Any) -> Verdict:
        self._around.enter_resource(RESOURCE.FromString(resource.resource))
        return Verdict.LOOK

    def scope(self, scope: Any) -> Verdict:
        self._around.scope_message = SCOPE.FromString(scope.scope)
        return Verdict.LOOK

    def metric(self, metric: Any, kind: str) -> Verdict:
        self._metric, self._kind = metric, kind
        return Verdict.LOOK

    def record(self, raw: bytes, message: Any) -> bytes | None:
        record = self._made(message.FromString(raw))
        try:
            with self._calls:
                if self._is_over or time.monotonic() > self._until:
                    return self._fail(raw, "the time for a batch was over")
                self._thread = threading.get_ident()
            try:
                keep = self._function(record)
            finally:
                with self._calls:  # from here on nobody breaks in
                    self._thread = None
            return None if keep is False else record.written(raw)
        except _TimeUpError:
            return self._fail(raw, "the time for a batch was over")
        except Exception as error:
            return self._fail(raw, _place_of(error))

    def _made(self, message: Any) -> Record:
        if self._signal is Signal.LOGS:
            return LogRecord(message, self._around)
        if self._signal is Signal.TRACES:
            return Span(message, self._around)
        return DataPoint(message, self._around, self._metric, self._kind)

    def _fail(self, raw: bytes, why: str) -> bytes | None:
        self.failed += 1
        self.why = self.why or why
        if self._on_error == "keep":
            return raw
        if self._on_error == "reject":
            self.rejected += 1
        return None


def _place_of(error: Exception) -> str:
    """Say what was raised and where; not its text, which may hold what the record did."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} in {frames[-1].name}, line {frames[-1].lineno}" if frames else type(error).__name__
