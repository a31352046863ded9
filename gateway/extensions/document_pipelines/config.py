"""The settings of the extension ``pipelines``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field

from gateway.base.settings import Duration, Settings
from gateway.net.destination import EmitterSettings
from receivers.mongodb.config import MongoPipeline

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("expected a name of letters, digits, '_', '.' and '-', at most 63")
    return value


class Schedule(Settings):
    """When a pipeline runs without being asked to. It only does when there is something to read."""

    every: Annotated[Duration, Field(ge=timedelta(seconds=1))] | None = timedelta(minutes=1)
    """How often to look for documents, varied by a tenth. ``null``: never."""
    watch: bool = True
    """Look at once when a document was written, where the server has change streams (MongoDB as a replica set)."""
    at_most_every: Annotated[Duration, Field(ge=timedelta(0))] = timedelta(seconds=10)
    """The shortest time from one run to the next, however much is written: each is a row in the history."""


class Pipeline(MongoPipeline):
    """Documents of one MongoDB collection, sent as events."""

    schedule: Schedule = Schedule()


class PipelinesConfig(EmitterSettings):
    """Reads what applications wrote into MongoDB and sends it as events. See docs/pipelines.md.

    Runs are kept in the store.
    """

    pipelines: dict[Annotated[str, AfterValidator(_name)], Pipeline] = Field(min_length=1)
    """The pipelines, by name. Gateways that share a store share the names: one run of a name at a time among them."""
    keep_runs: Annotated[Duration, Field(ge=timedelta(hours=1))] = timedelta(days=30)
    """How long runs that ended stay in the history. The last of each pipeline always does."""
