"""What a source of documents is written against: what applications wrote somewhere, sent as events and marked there.

The extension ``pipelines`` asks a source whether there is anything to read, and when; the source reads it, gives it to
a consumer, and marks what was acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gateway.base.settings import Settings

if TYPE_CHECKING:
    from typing import Self

    from opentelemetry.context import Context as TraceContext
    from opentelemetry.trace import Tracer

    from gateway.component.interfaces import Consumer


class SourceError(Exception):
    """Documents cannot be read or marked. The message says why and what to do, and holds no password."""


class NoChangeStreamsError(Exception):
    """The server does not tell of new documents, or does not let this user hear of them."""


class DestinationError(Exception):
    """Events cannot be sent now. Their documents stay as they are."""


class Place(NamedTuple):
    """Where documents lie, for people."""

    database: str
    collection: str

    def __str__(self) -> str:
        return f"{self.database}.{self.collection}"


class DocumentSettings(Settings):
    """Base of the settings of a source: what of a pipeline is about what it reads.

    One field has the name of the source's type, ``mongodb``: a pipeline that has it reads from that type of source.
    """

    @property
    def place(self) -> Place:
        """Where the documents lie."""
        raise NotImplementedError

    def rotated(self, after: DocumentSettings) -> Self | None:
        """Return these settings with the secrets that a rotation changed, None when it changed none."""
        raise NotImplementedError


@dataclass(slots=True)
class Counts:
    """How far a pass is: documents that were ``read``, and what became of them.

    ``found`` is how many there were at its start, None where nobody could tell.
    """

    found: int | None = None
    read: int = 0
    processed: int = 0
    skipped: int = 0
    failed: int = 0
    first_failures: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, int]:
        """Return the numbers by name."""
        found = {} if self.found is None else {"found": self.found}
        return {
            **found,
            "read": self.read,
            "processed": self.processed,
            "skipped": self.skipped,
            "failed": self.failed,
        }

    def __str__(self) -> str:
        of = f" of {self.found:,}" if self.found is not None else ""
        skipped = f", {self.skipped:,} of them without an event" if self.skipped else ""
        return f"{self.read:,}{of} documents read, {self.processed:,} processed{skipped}, {self.failed:,} failed"


class Changes(Protocol):
    """What a server tells of new documents."""

    async def wait(self) -> bool:
        """Return whether there are any, after a few seconds at most. Raises `SourceError` when it ended."""
        ...


class DocumentSource(Protocol):
    """What one pipeline reads. It connects when it is first asked for something, and its methods may be cancelled."""

    def check(self) -> None:
        """Look at what no server is needed for. Raises `ValueError` for what a pass would fail by."""
        ...

    async def waiting(self) -> bool:
        """Tell whether there is anything to read. Raises `SourceError`."""
        ...

    async def changes(self) -> Changes:
        """Begin to hear of new documents. Raises `NoChangeStreamsError` where that cannot be, and `SourceError`."""
        ...

    async def send(
        self,
        consumer: Consumer,
        tracer: Tracer,
        context: TraceContext,
        tell: Callable[[str], None],
        changed: Callable[[Counts], None],
    ) -> None:
        """Send all there is, and mark it once it is acknowledged.

        ``tell`` is given a line for people now and then, ``changed`` the counts so far. Spans belong to ``context``. It
        may be broken off at any await: what was not marked is read by the next pass. Raises `SourceError` and
        `DestinationError`.
        """
        ...

    async def close(self) -> None:
        """Close its connections; what is asked afterwards opens them again. A server that hangs is not waited for."""
        ...
