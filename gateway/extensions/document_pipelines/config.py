"""The settings of the extension ``pipelines``."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import AfterValidator, Field, ValidatorFunctionWrapHandler, WrapValidator, create_model

from gateway.base.settings import Duration, Settings
from gateway.component.documents import DocumentSettings, DocumentSource
from gateway.components import COMPONENTS, usable
from gateway.net.destination import EmitterSettings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("expected a name of letters, digits, '_', '.' and '-', at most 63")
    return value


class Schedule(Settings):
    """When a pipeline runs without being asked to. It only does when there is something to read."""

    every: Annotated[Duration, Field(ge=timedelta(seconds=1))] | None = timedelta(minutes=1)
    """How often to look for documents, varied by a tenth. ``null``: never."""
    watch: bool = True
    """Look at once when a document was written, where the server has change streams (MongoDB as a replica set)."""
    at_most_every: Annotated[Duration, Field(ge=timedelta(0))] = timedelta(seconds=10)
    """The shortest time from one run to the next, however much is written: each is a row in the history."""


class Pipeline(DocumentSettings):
    """What every pipeline has; the rest is its source's."""

    schedule: Schedule = Schedule()


def pipeline_of(source: str, its: type[Settings]) -> type[Pipeline]:
    """Return the settings of a pipeline that reads from a type of source: what every pipeline has, and the source's."""
    name = "".join(part.capitalize() for part in re.split(r"\W+", source)) + "Pipeline"
    return cast(
        "type[Pipeline]", create_model(name, __base__=(Pipeline, its), __module__=__name__, __doc__=its.__doc__)
    )


def any_of(pipelines: Mapping[str, type[Pipeline]]) -> Any:
    """Return the type of a pipeline that reads from one of these sources, which is the one that it has as a key."""
    if len(pipelines) < 2:
        return next(iter(pipelines.values()), Pipeline)

    def by_source(value: Any, otherwise: ValidatorFunctionWrapHandler) -> Any:
        if not isinstance(value, Mapping):
            return otherwise(value)
        for source, model in pipelines.items():
            if source in value:  # the others would only say what they miss
                return model.model_validate(value)
        raise ValueError(f"expected one of the keys {', '.join(sorted(pipelines))}: what the pipeline reads")

    return Annotated[functools.reduce(operator.or_, pipelines.values()), WrapValidator(by_source)]


_SOURCES = usable(COMPONENTS.sources)
_PIPELINES = {source: pipeline_of(source, component.settings) for source, component in _SOURCES.items()}
globals().update({model.__name__: model for model in _PIPELINES.values()})  # where workers find them that unpickle some

if TYPE_CHECKING:
    AnyPipeline = Pipeline
else:
    AnyPipeline = any_of(_PIPELINES)


class PipelinesConfig(EmitterSettings):
    """Reads what applications wrote into MongoDB and sends it as events. See docs/pipelines.md.

    Runs are kept in the store.
    """

    pipelines: dict[Annotated[str, AfterValidator(_name)], AnyPipeline] = Field(min_length=1)
    """The pipelines, by name. Gateways that share a store share the names: one run of a name at a time among them."""
    keep_runs: Annotated[Duration, Field(ge=timedelta(hours=1))] = timedelta(days=30)
    """How long runs that ended stay in the history. The last of each pipeline always does."""


def source_of(name: str, pipeline: Pipeline) -> DocumentSource:
    """Make what the pipeline ``name`` reads with. It connects when it is first used."""
    kind = next(source for source, model in _PIPELINES.items() if isinstance(pipeline, model))
    return _SOURCES[kind].create(name, pipeline)
