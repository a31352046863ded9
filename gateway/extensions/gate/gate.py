"""The gate: the loop between the gateway's readiness and Tailscale.

It trusts nothing it remembers. It begins by closing, because an earlier gate may have been killed; it asks Tailscale
what is exposed after each change and now and then between; and it closes when it ends, however that comes about short
of SIGKILL.
"""

from __future__ import annotations

import enum
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

import structlog

from gateway.extensions.gate.config import GateConfig
from gateway.extensions.gate.exposure import Exposure
from gateway.extensions.gate.readiness import Answer, Hysteresis
from gateway.extensions.gate.record import Record, RecordFile
from gateway.extensions.gate.tailscale import Tailscale, TailscaleError

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SECOND = timedelta(seconds=1)
_CLOSE_PAUSE = 1.0


class State(enum.StrEnum):
    """``unknown``: Tailscale could not be asked, or did not do what it was told."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"


class Report(Protocol):
    """Takes what the gate tells the world. Nothing of it blocks or raises."""

    def change(self, state: State, reason: str, exposure: Exposure | None) -> None:
        """The gate opened, closed, or lost sight of which."""

    def check(self, answer: Answer, state: State) -> None:
        """The gateway was asked."""


class Gate:
    """One gate. `run` blocks until ``stop`` is set. ``ask`` asks the gateway."""

    def __init__(
        self,
        config: GateConfig,
        tailscale: Tailscale,
        ask: Callable[[], Answer],
        record: RecordFile,
        report: Report,
        stop: threading.Event,
    ) -> None:
        self._tailscale, self._ask = tailscale, ask
        self._record, self._report, self._stop = record, report, stop
        self._place = config.https_port, config.path, config.command
        self._interval = config.interval / _SECOND
        self._verify_interval = config.verify_interval / _SECOND
        self._close_timeout = config.close_timeout / _SECOND
        self._hysteresis = Hysteresis(config.open_after, config.close_after)
        self._state = State.UNKNOWN
        self._since = time.time()
        self._reason = ""
        self._complaints: set[tuple[str, ...]] = set()
        self._verified_at = 0.0

    def run(self) -> bool:
        """Watch until told to stop, then close. Returns whether the gate is closed for certain.

        It is closed too when something unforeseen is raised, before that goes on its way.
        """
        reason = "the gate ended by a fault of its own"
        try:
            self._close("the gate begins closed, until the gateway has proven ready")
            while not self._stop.is_set():
                self._turn()
                self._stop.wait(self._interval)
            reason = "the gate was stopped"
        finally:
            closed = self._close_for_good(reason)
        return closed

    def _turn(self) -> None:
        answer = self._ask()
        wanted = self._hysteresis.note(ready=answer.ready)
        self._report.check(answer, self._state)
        if self._stop.is_set():
            return
        if wanted and self._state is not State.OPEN:
            self._open(answer.reason)
        elif not wanted and self._state is not State.CLOSED:
            self._close(answer.reason)
        elif time.monotonic() - self._verified_at >= self._verify_interval:
            self._verify()

    def _open(self, reason: str) -> None:
        try:
            found = self._tailscale.open()
        except TailscaleError as error:
            self._complain("the gate cannot be opened", reason=str(error))
            self._close(f"it cannot be opened: {error}")
            return
        self._settle(State.OPEN, reason, found)

    def _close(self, reason: str) -> bool:
        try:
            found = self._tailscale.close()
        except TailscaleError as error:
            self._complain("the gate cannot be closed", reason=str(error))
            self._settle(State.UNKNOWN, f"it cannot be closed: {error}", None)
            return False
        self._settle(State.CLOSED, reason, found)
        if found.funnel and found.others:
            self._complain(
                "Funnel is on for other entries of the port, which are not the gate's", exposed=found.describe()
            )
        return True

    def _verify(self) -> None:
        try:
            found = self._tailscale.exposure()
        except TailscaleError as error:
            self._complain("Tailscale cannot be asked what is exposed", reason=str(error))
            self._settle(State.UNKNOWN, f"Tailscale cannot be asked: {error}", None)
            return
        self._verified_at = time.monotonic()
        good = found.mount is None if self._state is State.CLOSED else self._tailscale.is_as_it_should(found)
        if not good:
            what = self._tailscale.obstacle(found) or found.describe()
            _log.warning("somebody else changed what is exposed", exposed=what)
            self._close(f"somebody else changed what is exposed: {what}")

    def _close_for_good(self, reason: str) -> bool:
        deadline = time.monotonic() + self._close_timeout
        while not self._close(reason):
            if time.monotonic() + _CLOSE_PAUSE > deadline:
                _log.error("THE GATE IS NOT CLOSED FOR CERTAIN; run `obs-hub gate close`, or stop tailscaled")
                return False
            time.sleep(_CLOSE_PAUSE)
        return True

    def _settle(self, state: State, reason: str, found: Exposure | None) -> None:
        if state is not State.UNKNOWN:
            self._verified_at = time.monotonic()
        changed = state is not self._state
        if not changed and reason == self._reason:
            return
        self._reason = reason
        if changed:
            self._state, self._since = state, time.time()
            self._complaints.clear()
            log = _log.error if state is State.UNKNOWN else _log.info
            log(f"the gate is {state}", reason=reason, **({"exposed": found.describe()} if found else {}))
            self._report.change(state, reason, found)
        try:
            self._record.write(Record(state.value, self._since, reason, os.getpid(), *self._place))
        except OSError as error:
            self._complain("the state cannot be written down for `obs-hub gate status`", reason=str(error))

    def _complain(self, event: str, **fields: str) -> None:
        """Log what is wrong once, not at every turn."""
        complaint = (event, *fields.values())
        if complaint not in self._complaints:
            self._complaints.add(complaint)
            _log.warning(event, **fields)
