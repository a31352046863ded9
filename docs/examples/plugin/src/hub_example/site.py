"""A processor: says of each log record's resource at which site it was made."""

from __future__ import annotations

from dataclasses import replace

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from obs_hub.component import Batch, Context, MalformedPayloadError, Processed, Processor, ProcessorComponent, Signal
from obs_hub.settings import Settings


class SiteConfig(Settings):
    """Adds the resource attribute ``site`` to logs."""

    name: str
    """Its value."""


class SiteProcessor:
    """Implements `obs_hub.component.Processor`: a batch in, a batch out, and nothing kept between them.

    The same batch has to become the same bytes whenever it comes again.
    """

    def __init__(self, name: str, config: SiteConfig) -> None:
        self.name = name
        self._site = config.name

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to release."""

    async def process(self, batch: Batch) -> Processed:
        """Add the attribute to each resource that has none."""
        try:
            request = ExportLogsServiceRequest.FromString(batch.payload)
        except DecodeError as error:
            raise MalformedPayloadError(f"not a valid request: {error}") from error
        for owner in request.resource_logs:
            if all(attribute.key != "site" for attribute in owner.resource.attributes):
                owner.resource.attributes.add(key="site").value.string_value = self._site
        return Processed(replace(batch, payload=request.SerializeToString()))


def create(name: str, config: SiteConfig, context: Context) -> Processor:
    """Make the processor of that name: one for each pipeline that has it."""
    return SiteProcessor(name, config)


COMPONENT = ProcessorComponent(settings=SiteConfig, create=create, signals=frozenset({Signal.LOGS}))
