"""Hearing of new documents, where the server has change streams."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from gateway.component.documents import SourceError
from receivers.mongodb.config import INGESTED, STATUS

WAIT_MILLISECONDS = 1_000

WITHOUT_CHANGE_STREAMS = {
    13: "this user may not follow it",
    59: "the server has no change streams",
    238: "the server has no change streams",
    40324: "the server has no change streams",
    40573: "the server is no replica set",
}
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
        self._passing_over = 0.0
        """Seconds for which further changes are passed over: one is enough to look. None are before the first."""

    def wait(self) -> bool:
        """Return whether a document came to be ``ingested``, after two seconds at most. Raises `SourceError`."""
        until, found = monotonic() + self._passing_over, False
        while self._guarded(self._stream.try_next) is not None:
            found = True
            if monotonic() >= until:
                break
        self._passing_over = WAIT_MILLISECONDS / 1000 if found else 0.0
        if not self._stream.alive:
            raise SourceError("the change stream ended")
        return found
