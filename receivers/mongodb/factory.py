"""How the gateway makes what a pipeline reads with."""

from __future__ import annotations

from receivers.mongodb.collection import Collection
from receivers.mongodb.config import MongoPipeline
from receivers.mongodb.transform import Transform, load


def create(name: str, settings: MongoPipeline) -> Collection:
    """Make the collection of the pipeline ``name``. It connects when it is first used."""
    return Collection(name, settings)


def create_transform(settings: MongoPipeline) -> Transform | None:
    """Import the function of a pipeline that names one. Raises `ValueError` when it cannot."""
    return None if settings.transform is None else load(settings.transform)
