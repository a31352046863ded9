"""The settings of a pipeline that reads MongoDB.

.. code-block:: yaml

    mongodb: {uri: "${bao:apps/mongo#uri}", database: apps, collection: events}
    query: {source: {$in: [reading, cover-craft]}}
    mapping:
      resource: {deployment.environment.name: home}
"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr

from gateway.base.settings import ByteSize, Duration, RetrySettings, Settings
from gateway.component.documents import DocumentSettings, Place

STATUS = "status"
"""The field of a document that says what became of it."""
INGESTED, PROCESSED, FAILED = "ingested", "processed", "failed"

URI = re.compile(
    r"mongodb(\+srv)?://((?:[^%@:/?]|%[0-9A-Fa-f]{2})*(:(?P<password>(?:[^%@:/?]|%[0-9A-Fa-f]{2})*))?@)?[^@/?]+(/[^@?]*)?(\?.*)?"
)
"""A connection string. What a URI cannot hold as it is would be taken for a host or a port, and told in errors."""
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def _check_uri(uri: SecretStr) -> SecretStr:
    if not URI.fullmatch(uri.get_secret_value()):
        raise ValueError(
            "expected a URI such as mongodb://user:password@host:27017/database, in which % @ : / ? of a password are "
            "written %25 %40 %3A %2F %3F"
        )
    return uri


def _check_database(name: str) -> str:
    if not name or len(name) > 63 or any(character in name for character in '/\\. "$\0'):
        raise ValueError("expected the name of a MongoDB database, such as apps")
    return name


def _check_collection(name: str) -> str:
    if not name or "$" in name or "\0" in name or name.startswith("system."):
        raise ValueError("expected the name of a MongoDB collection, such as events")
    return name


def _check_path(path: str) -> str:
    if not path or not all(path.split(".")) or path.startswith("$"):
        raise ValueError("expected the path of a field, such as payload or meta.device")
    return path


def _check_function(path: str) -> str:
    if not _FUNCTION.fullmatch(path):
        raise ValueError("expected package.module:function")
    return path


def _check_query(query: dict[str, Any]) -> dict[str, Any]:
    if STATUS in query:
        raise ValueError(f"the pipeline itself asks for the field {STATUS}; leave it out")
    try:
        json.dumps(query)
    except (TypeError, ValueError):
        raise ValueError('expected Extended JSON: a date is {$date: "2026-01-01T00:00:00Z"}') from None
    return query


FieldPath = Annotated[str, AfterValidator(_check_path)]
"""The path of a field in a document: ``payload``, ``meta.device``."""


class MongoConnection(Settings):
    """The collection that documents are read from, and in which they are marked."""

    uri: Annotated[SecretStr, AfterValidator(_check_uri)]
    """The connection string. It may hold a password: better ``${env:MONGO_URI}`` or ``${bao:apps/mongo#uri}``."""
    database: Annotated[str, AfterValidator(_check_database)]
    """Its database."""
    collection: Annotated[str, AfterValidator(_check_collection)]
    """Its collection."""
    hint: str | None = None
    """The name of the index to read by. ``null``: one on ``{status: 1, _id: 1}``, where there is one."""
    create_index: bool = True
    """Make that index where it is missing and this user may. Without an index each run looks at all documents."""


class MappingSettings(Settings):
    """Which field of a document becomes which part of the event. Fields are written as paths, ``meta.device``."""

    event_name: FieldPath = "event_type"
    """The event's name. A text."""
    event_names: dict[str, str] = Field(default_factory=dict)
    """Other names for events: what the document says, and what is sent instead."""
    timestamp: FieldPath = "timestamp"
    """When it happened: a date, a text in ISO 8601 (without an offset it is UTC), or a number.

    Where there is none, it is the second in which the document's ObjectId was made.
    """
    timestamp_unit: Literal["s", "ms", "us", "ns"] = "ms"
    """What numbers in that field count, since the Unix epoch. JavaScript's ``Date.now()`` counts ``ms``."""
    body: FieldPath = "payload"
    """The event's body, with its structure."""
    attributes_from: FieldPath | None = "meta"
    """An object whose fields become attributes. ``null``: none."""
    attributes: dict[str, FieldPath] = Field(default_factory=dict)
    """Further attributes: the name of each, and the field it comes from. They win; a missing field makes none."""
    service_name: FieldPath = "source"
    """The resource attribute ``service.name``. Where there is none, it is the pipeline's name."""
    resource: dict[str, str | bool | int | float] = Field(default_factory=dict)
    """Further resource attributes, the same for every event."""
    severity_number: int = Field(default=9, ge=0, le=24)
    """The events' severity, as OpenTelemetry numbers them: 9 is INFO."""


class BatchSettings(Settings):
    """How many documents are read, sent and marked at once. Whichever comes first counts."""

    max_documents: int = Field(default=1000, ge=1, le=10_000)
    """Documents of one request."""
    max_size: ByteSize = Field(default=2**20, ge=2**10, le=16 * 2**20)
    """Bytes of one request, approximately. A single event may be larger."""


class MongoPipeline(DocumentSettings):
    """Documents of one MongoDB collection, sent as events."""

    mongodb: MongoConnection
    query: Annotated[dict[str, Any], AfterValidator(_check_query)] = Field(default_factory=dict)
    """Which documents, besides that their status is ``ingested``: a MongoDB query, with types as in Extended JSON."""
    mapping: MappingSettings = MappingSettings()
    transform: Annotated[str, AfterValidator(_check_function)] | None = None
    """A Python function ``package.module:function`` that is given the event and the document, and returns the event to
    send, or None for none. It runs with all rights of the hub."""
    batch: BatchSettings = BatchSettings()
    retry_on_failure: RetrySettings = RetrySettings()
    patience: Annotated[Duration, Field(ge=timedelta(0))] = timedelta(minutes=2)
    """How long a run waits for a gateway that is away before it fails. The documents wait for the next run then."""

    @property
    def place(self) -> Place:
        """The database and the collection."""
        return Place(self.mongodb.database, self.mongodb.collection)

    def rotated(self, after: DocumentSettings) -> Self | None:
        """Return these settings with another connection string, None where it is the same."""
        assert isinstance(after, MongoPipeline)
        if after.mongodb.uri == self.mongodb.uri:
            return None
        return self.model_copy(update={"mongodb": self.mongodb.model_copy(update={"uri": after.mongodb.uri})})
