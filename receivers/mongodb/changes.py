"""Hearing of new documents, where the server has change streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from receivers.mongodb.config import INGESTED, STATUS
from receivers.mongodb.errors import SourceError

WAIT_MILLISECONDS = 1_000

WITHOUT_CHANGE_STREAMS = {
    13: "this user may not follow it",
    59: "the server has no change streams",
    238: "the server has no change streams",
    40324: "the server has no change streams",
    40573: "the server is no replica set",
}
_MORE = 1_000
"""How many further changes are passed over at once: one is enough to look."""

STAGES = [
    {
        "$match": {
            "$or": [
                {"operationType": {"$in": ["insert", "replace"]}, f"fullDocument.{STATUS}": INGESTED},
                {"operationType": "update", f"updateDescription.updatedFields.{STATUS}": INGESTED},
            ]
        }
    },
    {"$project": {"_id": 1}},  # that there is something is all that is wanted
]


class Changes:
    """A change stream that tells when there is something to read."""

    def __init__(self, stream: Any, guarded: Callable[[Callable[[], Any]], Any]) -> None:
        self._stream = stream
        self._guarded = guarded

    def wait(self) -> bool:
        """Return whether a document came to be ``ingested``, after a second at most. Raises `SourceError`."""
        found = self._guarded(self._stream.try_next) is not None
        for _ in range(_MORE if found else 0):
            if self._guarded(self._stream.try_next) is None:
                break
        if not self._stream.alive:
            raise SourceError("the change stream ended")
        return found

    def close(self) -> None:
        """End it."""
        self._guarded(self._stream.close)
