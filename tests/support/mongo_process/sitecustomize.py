"""Gives a process of its own a MongoDB that stands in: see `tests.support.mongo`.

Python imports this module at its start when its folder is on PYTHONPATH. ``OBSHUB_TEST_MONGO_DOCUMENTS`` is a file of
documents in Extended JSON, which has what became of them when the process ends.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from pathlib import Path

FILE = os.environ.get("OBSHUB_TEST_MONGO_DOCUMENTS")
_FOR_LIFE = contextlib.ExitStack()


def begin(file: Path) -> None:
    """Let pymongo's client be a stand-in's for the life of the process."""
    import pymongo
    from bson import json_util

    from tests.support.mongo import STAND_IN_URI, stand_in

    _FOR_LIFE.enter_context(stand_in())
    events = pymongo.MongoClient(STAND_IN_URI)["apps"]["events"]
    events.insert_many(json_util.loads(file.read_text("utf-8")))
    atexit.register(lambda: file.write_text(json_util.dumps(list(events.find())), "utf-8"))


if FILE:
    begin(Path(FILE))
