"""One run of a pipeline: connect, read and send all there is, say how it went."""

from __future__ import annotations

from opentelemetry.metrics import Counter

from gateway.component import Consumer, Signal
from gateway.component.documents import Counts, DestinationError, DocumentSource, SourceError
from gateway.extensions.document_pipelines.config import Pipeline
from gateway.net.remote import place_of
from gateway.operations import Operations
from gateway.runs import Outcome, Progress, RunState

KIND = "pipeline"


class PipelineRun:
    """Does the runs of pipelines, whoever asks for them."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._documents: Counter = operations.meter.create_counter(
            "obs_hub.pipeline.documents", "{document}", "Documents that were read, by what became of them"
        )

    async def do(
        self, name: str, pipeline: Pipeline, source: DocumentSource, consumer: Consumer, progress: Progress
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

        result = {"collection": str(pipeline.place), "endpoint": place_of(consumer, Signal.LOGS)}
        try:
            source.check()
        except ValueError as error:
            tell(str(error))
            return Outcome(RunState.FAILED, result, str(error))
        try:
            await source.send(consumer, self._operations.tracer, progress.context, tell, changed)
        except (SourceError, DestinationError) as error:
            tell(str(error))
            return Outcome(RunState.FAILED, result, str(error))
        return Outcome(RunState.SUCCEEDED, result)
