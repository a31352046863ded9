"""What the source ``mongodb`` is, and how the extension ``pipelines`` makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.component.declaration import SourceComponent
from receivers.mongodb.config import MongoPipeline

if TYPE_CHECKING:
    from receivers.mongodb.source import MongoSource


def create(name: str, settings: MongoPipeline) -> MongoSource:
    """Make the source of the pipeline ``name``. It connects when it is first used."""
    from receivers.mongodb.source import MongoSource

    return MongoSource(name, settings)


COMPONENT = SourceComponent(settings=MongoPipeline, create=create)
