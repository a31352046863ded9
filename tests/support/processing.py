"""Processors made as a configuration makes them, and what becomes of a batch that goes through one."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway import components
from gateway.component import Batch, Processed, Processor, Signal
from gateway.component.declaration import Context
from gateway.otlp.services import SERVICES


def processor(name: str, settings: dict[str, Any] | None, signal: Signal, pipeline: str | None = None) -> Processor:
    """Make a processor as it stands in a file: its name, which begins with its type, and its settings."""
    component = components.processor(name)
    context = Context().within(pipeline or signal.value, signal)
    return component.create(name, component.settings.model_validate(settings or {}), context)


async def process(name: str, settings: dict[str, Any] | None, batch: Batch) -> Processed:
    """Return what a processor makes of a batch."""
    made = processor(name, settings, batch.signal)
    await made.start()
    try:
        return await made.process(batch)
    finally:
        await made.stop()


def processed(name: str, settings: dict[str, Any] | None, batch: Batch) -> Any:
    """Return the request that is left of a batch, read; None where that is nothing."""
    return read(asyncio.run(process(name, settings, batch)).batch)


def read(batch: Batch | None) -> Any:
    """Return the request of a batch, read."""
    return None if batch is None else SERVICES[batch.signal].request.FromString(batch.payload)


def batch_of(request: Any) -> Batch:
    """Return the batch of a request."""
    (signal,) = (each for each, service in SERVICES.items() if isinstance(request, service.request))
    return Batch.of(signal, request.SerializeToString())


def records_of(request: Any) -> list[Any]:
    """Return the log records, spans or data points of a request that was read."""
    if request is None:
        return []
    records: list[Any] = []
    for resource in getattr(request, request.DESCRIPTOR.fields[0].name):
        for scope in getattr(resource, resource.DESCRIPTOR.fields_by_number[2].name):
            for each in getattr(scope, scope.DESCRIPTOR.fields_by_number[2].name):
                if each.DESCRIPTOR.name != "Metric":
                    records.append(each)
                elif (kind := each.WhichOneof("data")) is not None:
                    records += getattr(each, kind).data_points
    return records


def attributes_of(owner: Any) -> dict[str, Any]:
    """Return attributes by their keys; each value is what its message holds."""
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value") for each in owner.attributes
    }
