"""What a pipeline's settings may be."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.extensions.document_pipelines.config import AnyPipeline, PipelinesConfig

MONGODB = {"uri": "mongodb://apps:secret-word@db.example.com/", "database": "apps", "collection": "events"}


def test_the_least_there_has_to_be() -> None:
    settings = PipelinesConfig.model_validate({"pipelines": {"reading": {"mongodb": MONGODB}}}).pipelines["reading"]
    assert (settings.mapping.event_name, settings.mapping.body, settings.mapping.attributes_from) == (
        *("event_type", "payload", "meta"),
    )
    assert settings.schedule.every is not None
    assert "secret-word" not in repr(settings)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"mongodb": {**MONGODB, "uri": "http://db"}}, "expected a URI such as mongodb://"),
        ({"mongodb": {**MONGODB, "database": "a.b"}}, "expected the name of a MongoDB database"),
        ({"mongodb": {**MONGODB, "collection": "system.users"}}, "expected the name of a MongoDB collection"),
        ({"query": {"status": "failed"}}, "leave it out"),
        ({"mapping": {"body": "a..b"}}, "expected the path of a field"),
        ({"mapping": {"timestamp_unit": "minutes"}}, "timestamp_unit"),
        ({"transform": "os.system"}, "expected package.module:function"),
        ({"transform": "os:system('x')"}, "expected package.module:function"),
        ({"batch": {"max_documents": 0}}, "greater than or equal to 1"),
        ({"schedule": {"every": "10ms"}}, "every"),
        ({"unknown": 1}, "Extra inputs are not permitted"),
    ],
)
def test_mistakes_are_told(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem) as found:
        AnyPipeline.model_validate({"mongodb": MONGODB, **changes})
    assert "secret-word" not in str(found.value) or "uri" in changes.get("mongodb", {})


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://db",
        "mongodb://u@a:27017,b:27017/apps?replicaSet=rs0&readPreferenceTags=dc:a@b",
        "mongodb://u:pa%24s%40[word]#@[::1]:27017/",
        "mongodb://%2Frun%2Fmongodb.sock/apps",
        "mongodb+srv://u:p@cluster.example.com",
    ],
)
def test_connection_strings_of_every_kind(uri: str) -> None:
    AnyPipeline.model_validate({"mongodb": {**MONGODB, "uri": uri}})


@pytest.mark.parametrize("password", ["se%cret", "se@cret", "se/cret", "se:cret", "s@e/cret"])
def test_a_password_that_a_uri_cannot_hold_as_it_is_is_refused_and_not_told(password: str) -> None:
    """A part of it would be taken for a host that is looked for, and told in errors."""
    with pytest.raises(ValidationError) as found:
        AnyPipeline.model_validate({"mongodb": {**MONGODB, "uri": f"mongodb://apps:{password}@db.example.com/"}})
    (error,) = found.value.errors()
    assert "of a password are written %25 %40" in error["msg"]
    assert "cret" not in error["msg"]


@pytest.mark.parametrize("name", ["", "a/b", "-a", "x" * 64])
def test_names_can_be_part_of_a_path(name: str) -> None:
    with pytest.raises(ValidationError, match="expected a name"):
        PipelinesConfig.model_validate({"pipelines": {name: {"mongodb": MONGODB}}})
