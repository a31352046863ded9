"""The settings of the journal receiver.

.. code-block:: yaml

    receivers:
      journald:
        units: [nginx.service, "docker-*"]
        priority: info
        start_at: beginning
        endpoint: https://hub.example.com:4317
        headers: {authorization: "Bearer ${env:HUB_TOKEN}"}
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from gateway.base.settings import ByteSize, Duration, RetrySettings, Settings
from gateway.net.destination import EmitterSettings

Priority = Literal["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"]
"""A syslog severity, by the name that journalctl gives it."""

_FIELD = re.compile(r"_{0,2}[A-Z][A-Z0-9_]{0,63}")


def _check_field(name: str) -> str:
    if not _FIELD.fullmatch(name):
        raise ValueError("expected the name of a journal field, such as _TRANSPORT or REQUEST_ID")
    return name


def _check_match(match: str) -> str:
    name, equals, _ = match.partition("=")
    if not equals or not _FIELD.fullmatch(name):
        raise ValueError("expected FIELD=value, such as _TRANSPORT=kernel or SYSLOG_IDENTIFIER=sshd")
    return match


FieldName = Annotated[str, AfterValidator(_check_field)]
Match = Annotated[str, AfterValidator(_check_match)]


class BatchSettings(Settings):
    """How many entries make one request. Whichever comes first counts."""

    max_records: int = Field(default=1000, ge=1, le=100_000)
    """Log records of one request."""

    max_size: ByteSize = Field(default=2**20, ge=2**10, le=16 * 2**20)
    """Bytes of one request, approximately. A single entry may be larger."""

    timeout: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(seconds=1)
    """How long the first entry waits for others."""


class JournaldConfig(EmitterSettings):
    """Settings of the ``journald`` receiver: the systemd journal of this machine, read by ``journalctl``.

    Without any it sends everything that is written from now on and that its user may read.
    """

    units: tuple[str, ...] = ()
    """Units to send, such as ``nginx.service`` or ``docker-*``; none: all. A name without a suffix is a service.

    What systemd itself says about a unit (started, failed, core dumped) belongs to it.
    """

    exclude_units: tuple[str, ...] = ()
    """Units to leave out, written like ``units``; they win."""

    priority: Priority | None = None
    """The least severe priority to send, such as ``warning``. Absent: all, also entries that have none."""

    matches: tuple[Match, ...] = ()
    """Other conditions, as ``journalctl`` takes them: ``_TRANSPORT=kernel``.

    Several of one field are alternatives, those of different fields must all hold.
    """

    directory: Path | None = None
    """The directory of the journal files, instead of this machine's: for containers, or a central journal."""

    files: tuple[str, ...] = ()
    """The journal files to read, instead of this machine's. Patterns are allowed; later files are found in a minute."""

    namespace: str | None = None
    """A journal namespace (``systemd-journald@NAME``), or ``*`` for all."""

    start_at: Literal["end", "beginning"] = "end"
    """Where to begin the first time. Afterwards it goes on where it ended."""

    fields: tuple[FieldName, ...] = ()
    """Further journal fields to send, as attributes: ``REQUEST_ID`` becomes ``journald.request_id``."""

    parse_json: bool = True
    """Whether a message that is a JSON object becomes body, severity, trace context and attributes."""

    max_message_size: ByteSize = Field(default=2**20, ge=2**10, le=8 * 2**20)
    """Bytes of a message after which it is cut."""

    batch: BatchSettings = BatchSettings()

    retry_on_failure: RetrySettings = RetrySettings()

    journalctl_path: str = "journalctl"
    """The program to run."""

    @model_validator(mode="after")
    def _one_journal(self) -> JournaldConfig:
        named = [name for name in ("directory", "files", "namespace") if getattr(self, name)]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} name different journals; keep one of them")
        return self
