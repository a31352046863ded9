"""What the extension ``pipelines`` asks: whether there are documents, when there are, and to send them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.trace import Tracer

from gateway.component import Consumer
from gateway.component.documents import Counts
from receivers.mongodb import changes
from receivers.mongodb.collection import Collection
from receivers.mongodb.config import MongoPipeline
from receivers.mongodb.reading import Reading
from receivers.mongodb.threads import in_daemon_thread
from receivers.mongodb.transform import Transform, load

_CLOSE_SECONDS = 3.0
"""How long to wait for a server to hear that we go. One that hangs finds out by itself."""


class MongoSource:
    """Implements `gateway.component.documents.DocumentSource` for one collection, in threads that nobody waits for."""

    def __init__(self, name: str, settings: MongoPipeline) -> None:
        self._name = name
        self._settings = settings
        self._collection = Collection(name, settings)

    def check(self) -> None:
        """Import the function of a pipeline that names one. Raises `ValueError` when it cannot."""
        self._transform()

    async def waiting(self) -> bool:
        """Tell whether anything is ``ingested``. Raises `SourceError`."""
        return await in_daemon_thread(self._collection.waiting)

    async def changes(self) -> Changes:
        """Open a change stream. Raises `NoChangeStreamsError` where the server has none, and `SourceError`."""
        return Changes(await in_daemon_thread(self._collection.changes))

    async def send(
        self,
        consumer: Consumer,
        tracer: Tracer,
        context: Context,
        tell: Callable[[str], None],
        changed: Callable[[Counts], None],
    ) -> None:
        """Send all there is. Raises `SourceError` and `DestinationError`."""
        reading = Reading(self._name, self._settings, self._collection, consumer, tracer, self._transform())
        await reading.run(context, tell, changed)

    async def close(self) -> None:
        """Close the connections, or leave them to a server that hangs."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(in_daemon_thread(self._collection.close), _CLOSE_SECONDS)

    def _transform(self) -> Transform | None:
        return None if self._settings.transform is None else load(self._settings.transform)


class Changes:
    """A change stream, waited for in a thread."""

    def __init__(self, stream: changes.Changes) -> None:
        self._stream = stream

    async def wait(self) -> bool:
        """Return whether a document came to be ``ingested``, after two seconds at most. Raises `SourceError`."""
        return await in_daemon_thread(self._stream.wait)
