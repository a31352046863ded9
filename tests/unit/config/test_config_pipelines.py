"""Pipelines read from sources of documents that are found by entry points, and say by a key from which."""

from __future__ import annotations

import pickle

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.component.documents import DocumentSettings, Place
from gateway.components import COMPONENTS
from gateway.extensions.document_pipelines.config import Pipeline, PipelinesConfig, any_of, pipeline_of

MONGODB = {"mongodb": {"uri": "mongodb://nowhere.invalid/", "database": "apps", "collection": "events"}}


class CouchPipeline(DocumentSettings):
    """Documents of a database of CouchDB."""

    couch: dict[str, str]

    @property
    def place(self) -> Place:
        return Place(self.couch["database"], "")


SOURCES = {"mongodb": COMPONENTS.sources["mongodb"].settings, "couch": CouchPipeline}
BOTH = TypeAdapter(any_of({source: pipeline_of(source, settings) for source, settings in SOURCES.items()}))


def problems(of: object) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        BOTH.validate_python(of)
    return [(each["loc"], each["msg"]) for each in caught.value.errors()]


def test_a_pipeline_is_what_its_source_reads_and_when() -> None:
    config = PipelinesConfig.model_validate({"pipelines": {"reading": MONGODB | {"schedule": {"every": "5m"}}}})
    pipeline = config.pipelines["reading"]
    assert isinstance(pipeline, Pipeline)
    assert isinstance(pipeline, COMPONENTS.sources["mongodb"].settings)
    assert (str(pipeline.place), pipeline.schedule.every.total_seconds()) == ("apps.events", 300)  # type: ignore[union-attr]
    assert pickle.loads(pickle.dumps(config)) == config, "as workers are given it"


def test_of_several_sources_the_one_whose_key_is_there_is_read() -> None:
    assert BOTH.validate_python({"couch": {"database": "apps"}}).place.database == "apps"
    assert BOTH.validate_python(MONGODB).place == ("apps", "events")


def test_what_is_wrong_is_said_by_that_source_alone() -> None:
    broken = {"mongodb": MONGODB["mongodb"] | {"database": "a b"}}
    assert [where for where, _ in problems(broken)] == [("mongodb", "database")]
    ((where, what),) = problems({"schedule": {}})
    assert (where, what.endswith("expected one of the keys couch, mongodb: what the pipeline reads")) == ((), True)


def test_every_source_is_in_the_schema() -> None:
    assert {"MongodbPipeline", "CouchPipeline"} <= BOTH.json_schema()["$defs"].keys()
