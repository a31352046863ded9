"""One run of a pipeline: connect, read and send all there is, say how it went."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.metrics import Counter

from gateway.component import Signal
from gateway.extensions.document_pipelines.config import Pipeline
from gateway.net.client import connect
from gateway.net.destination import Destination, EmitterSettings, destination, names_endpoint
from gateway.operations import Operations
from gateway.runs import Outcome, Progress, RunState
from receivers.mongodb.collection import Collection
from receivers.mongodb.errors import DestinationError, SourceError
from receivers.mongodb.factory import create_transform
from receivers.mongodb.reading import Counts, Reading

KIND = "pipeline"


class PipelineRun:
    """Does the runs of pipelines, whoever asks for them."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._documents: Counter = operations.meter.create_counter(
            "obs_hub.pipeline.documents", "{document}", "Documents that were read, by what became of them"
        )

    async def do(
        self, name: str, pipeline: Pipeline, source: Collection, to: Destination, progress: Progress
    ) -> Outcome:
        """Do one. What goes wrong is the outcome's error; only cancellation is raised."""
        counted: dict[str, int] = {}

        def changed(counts: Counts) -> None:
            progress.counts.update(counts.as_dict())
            for state in ("processed", "failed"):
                more = progress.counts[state] - counted.get(state, 0)
                counted[state] = progress.counts[state]
                if more:
                    self._documents.add(more, {"name": name, "state": state})

        def tell(line: str) -> None:
            progress.output.add(f"{line}\n")

        result = {"collection": source.namespace, "endpoint": to.endpoint}
        try:
            transform = create_transform(pipeline)
            client = connect(to)
        except (ValueError, OSError) as error:
            tell(str(error))
            return Outcome(RunState.FAILED, result, str(error))
        reading = Reading(name, pipeline, source, client, self._operations.tracer, transform)
        try:
            await reading.run(progress.context, tell, changed)
        except (SourceError, DestinationError) as error:
            tell(str(error))
            return Outcome(RunState.FAILED, result, str(error))
        finally:
            await client.close()
        return Outcome(RunState.SUCCEEDED, result)


def where_to(
    settings: EmitterSettings, front_door: Destination | None, environ: Mapping[str, str] | None = None
) -> Destination:
    """Return where events go: as configured, as the environment says, or to this hub itself.

    Raises `ValueError` for a protocol or an endpoint that cannot be used.
    """
    if front_door is not None and not names_endpoint(settings, Signal.LOGS, environ):
        return front_door
    return destination(settings, Signal.LOGS, environ)
