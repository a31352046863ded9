"""A processor: of log records that are equal and follow each other within a batch, one is kept."""

from __future__ import annotations

from dataclasses import replace

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from obs_hub.component import (
    Batch,
    Context,
    MalformedPayloadError,
    Processed,
    Processor,
    ProcessorComponent,
    Signal,
)
from obs_hub.settings import Settings


class DeduplicateConfig(Settings):
    """Of log records with the same body that follow each other, keeps the first."""

    ignore_case: bool = False
    """Whether bodies that differ in case alone are the same."""


class Deduplicate:
    """Implements `obs_hub.component.Processor`: what it makes of a batch depends on the batch alone."""

    def __init__(self, name: str, config: DeduplicateConfig) -> None:
        self.name = name
        self._config = config

    async def start(self) -> None:
        """There is nothing to get ready."""

    async def stop(self) -> None:
        """There is nothing to release."""

    async def process(self, batch: Batch) -> Processed:
        """Leave out what says the same as the record before it; a batch without such is returned as it is."""
        try:
            request = ExportLogsServiceRequest.FromString(batch.payload)
        except Exception as error:
            raise MalformedPayloadError(f"not a request of logs: {error}") from error
        dropped = 0
        for scope in (scope for resource in request.resource_logs for scope in resource.scope_logs):
            before = None
            for index, record in reversed(list(enumerate(scope.log_records))):
                said = record.body.SerializeToString(deterministic=True)
                said = said.lower() if self._config.ignore_case else said
                if said == before:
                    del scope.log_records[index + 1]
                    dropped += 1
                before = said
        return Processed(replace(batch, payload=request.SerializeToString()), dropped) if dropped else Processed(batch)


def create(name: str, config: DeduplicateConfig, context: Context) -> Processor:
    """Make the processor; each pipeline that names it has one."""
    return Deduplicate(name, config)


COMPONENT = ProcessorComponent(settings=DeduplicateConfig, create=create, signals=frozenset({Signal.LOGS}))
