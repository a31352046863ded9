"""Running Tailscale's command: one path of one port is entered or taken away, and nothing else is touched.

Syntax, as ``tailscale serve --help`` and the documentation of Funnel have it (checked with 1.103)::

    tailscale funnel --bg --https=443 --set-path=/api/v1/webhooks/github http://127.0.0.1:8085/api/v1/webhooks/github
    tailscale serve --https=443 --set-path=/api/v1/webhooks/github off
    tailscale serve status --json

An exit code of 0 proves nothing (without leave for Funnel, the command prints where to ask for it, and may end with 0),
so what counts is the status afterwards.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

import structlog

from gateway.base.child_environment import NETWORK, USER, environment
from gateway.base.exit_status import ended_with
from gateway.extensions.gate.exposure import Exposure, read

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_MAX_SAID = 800

_TAILNET = (
    "allow it to this machine: HTTPS certificates for the tailnet, and for Funnel the node attribute 'funnel' in its "
    "policy (https://tailscale.com/kb/1223/funnel)"
)
_ADVICE = (
    ("failed to connect to local tailscale", "start it: `sudo systemctl start tailscaled`"),
    ("access denied", "let the user that the gate runs as change it: `sudo tailscale set --operator=USER`"),
    ("logged out", "log this machine in: `sudo tailscale up`"),
    ("funnel not available", _TAILNET),
    ("is not enabled on your tailnet", _TAILNET),
    ("allowed for funnel", _TAILNET),
    ("another client is changing", "it is tried again"),
)
"""What to do about what Tailscale says, in small letters."""


class TailscaleError(Exception):
    """Tailscale could not be asked, or did not do it. The message says what to do."""


class BlockedError(TailscaleError):
    """Opening would expose or hide something else than the webhook, so it is not done."""


class Tailscale:
    """The gate's one path. ``proxy`` is the URL it leads to; ``timeout``, in seconds, is for each command."""

    def __init__(self, command: str, mode: str, port: int, path: str, proxy: str, timeout: float) -> None:
        self._command, self._timeout = command, timeout
        self._mode, self._port, self._path = mode, port, path
        self.proxy = proxy

    def exposure(self) -> Exposure:
        """Ask what is exposed on the port. Raises `TailscaleError`."""
        said = self._run("serve", "status", "--json")
        try:
            return read(said, self._port, self._path)
        except ValueError as error:
            raise TailscaleError(f"`{self._command} serve status --json` answers {said[:200]!r}: {error}") from error

    def is_as_it_should(self, found: Exposure) -> bool:
        """Tell whether the path is exposed, to those it should be, and nothing along with it."""
        return found.is_exactly(self._mode, self.proxy)

    def obstacle(self, found: Exposure) -> str | None:
        """Say what stands in the way of opening, if anything does."""
        return found.obstacle(self._mode, self._port)

    def open(self) -> Exposure:
        """Expose the path, and return what is exposed then.

        Raises `BlockedError` when that would expose or hide something else, `TailscaleError` when it is not exposed,
        or not for certain.
        """
        before = self.exposure()
        if self.is_as_it_should(before):
            return before
        if obstacle := self.obstacle(before):
            raise BlockedError(obstacle)
        said = self._run(self._mode, "--bg", self._at_port, self._at(self._path), self.proxy)
        after = self.exposure()
        if self.is_as_it_should(after):
            return after
        if after.mount is not None and after.funnel and after.others:
            # Somebody entered something on the port at this very moment, and it went public with the webhook.
            self._run("serve", "--bg", self._at_port, self._at(after.mount), self.proxy)
            self.close()
            raise BlockedError(self.obstacle(after) or after.describe())
        raise TailscaleError(
            _with_advice(f"`tailscale {self._mode}` did not expose {self._path}: {said or 'no reason'}")
        )

    def close(self) -> Exposure:
        """Take the path away, whoever entered it, and return what is left. Raises `TailscaleError` if it is not gone.

        It is the same with `serve` and with `funnel`, but `funnel … off` first asks whether Funnel is allowed at all,
        and does nothing when that was withdrawn. Funnel goes off for the port with the last entry.
        """
        mount = self._path
        with contextlib.suppress(TailscaleError):  # what the status cannot tell now, it must tell afterwards
            before = self.exposure()
            if before.mount is None:
                return before
            mount = before.mount
        failure = None
        try:
            self._run("serve", self._at_port, self._at(mount), "off")
        except TailscaleError as error:
            failure = error
        after = self.exposure()
        if after.mount is None:
            return after
        raise TailscaleError(
            f"{after.url} is still exposed: {failure or 'tailscale said nothing'}; by hand: `sudo tailscale serve "
            f"{self._at_port} {self._at(after.mount)} off`"
        ) from failure

    @property
    def _at_port(self) -> str:
        return f"--https={self._port}"

    @staticmethod
    def _at(mount: str) -> str:
        return f"--set-path={mount}"

    def _run(self, *arguments: str) -> str:
        """Run the command to its end, and return what it wrote. Raises `TailscaleError` unless it ends with 0 in time.

        It is in a session of its own: a Ctrl-C that is meant for the gate must not break off what closes it.
        """
        command = [self._command, *arguments]
        try:
            process = subprocess.Popen(  # noqa: S603 - the configured command, no shell, nothing from the network
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
                env=environment(*USER, *NETWORK),
            )
        except OSError as error:
            raise TailscaleError(
                f"{self._command} cannot be run ({error.strerror}): install Tailscale, or set extensions.gate.command"
            ) from error
        try:
            out, errors = process.communicate(timeout=self._timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            out, errors = process.communicate()
            raise TailscaleError(
                _with_advice(f"`{_shown(command)}` did not end within {self._timeout:g} s{_said(out, errors)}")
            ) from None
        _log.debug("a command of Tailscale ended", command=_shown(command), exit_code=process.returncode)
        if process.returncode != 0:
            raise TailscaleError(
                _with_advice(f"`{_shown(command)}` ended with {ended_with(process.returncode)}{_said(out, errors)}")
            )
        return out.strip() or errors.strip()


def _shown(command: list[str]) -> str:
    return " ".join(command)


def _said(out: str, errors: str) -> str:
    said = " ".join((errors.strip() or out.strip()).split())[:_MAX_SAID]
    return f": {said}" if said else ""


def _with_advice(message: str) -> str:
    advice = next((advice for sign, advice in _ADVICE if sign in message.lower()), None)
    return f"{' '.join(message.split())[:_MAX_SAID]}{f' ({advice})' if advice else ''}"
