"""A receiver: an event now and then, which says that this machine is there."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from datetime import timedelta

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from pydantic import Field

from obs_hub.component import (
    Batch,
    Consumer,
    Context,
    DeliveryError,
    Receiver,
    ReceiverComponent,
    Signal,
    UnavailableError,
)
from obs_hub.settings import Duration, EmitterSettings

log = logging.getLogger(__name__)


class HeartbeatConfig(EmitterSettings):
    """Says that this machine is there: the event ``heartbeat``, now and then."""

    interval: Duration = Field(default=timedelta(seconds=30), ge=timedelta(seconds=1))
    """How often."""


class HeartbeatReceiver:
    """Implements `obs_hub.component.Receiver`: it makes batches and hands them to its consumer."""

    def __init__(self, name: str, config: HeartbeatConfig, consumer: Consumer) -> None:
        self.name = name
        self.endpoints: dict[str, str] = {}  # it listens nowhere
        self._config = config
        self._consumer = consumer
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin. What cannot work at all is raised here, and the hub does not start."""
        self._task = asyncio.create_task(self._beat())

    async def stop(self, grace: float) -> None:
        """End. One that reads from somewhere hands on what it has, within ``grace`` seconds."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _beat(self) -> None:
        while True:
            await self._deliver(await Batch.received(Signal.LOGS, heartbeat()))
            await asyncio.sleep(self._config.interval.total_seconds())

    async def _deliver(self, batch: Batch) -> None:
        """Hand on one batch, again and again while it may be: the same bytes are recognized as the same batch."""
        while True:
            try:
                await self._consumer.accept(batch)
            except UnavailableError as error:
                await asyncio.sleep(error.retry_after)
            except DeliveryError as error:
                log.warning("%s: a heartbeat is refused: %s", self.name, error)
                return
            else:
                return


def heartbeat() -> bytes:
    """Make a serialized request, as every OTLP client does."""
    request = ExportLogsServiceRequest()
    owner = request.resource_logs.add()
    owner.resource.attributes.add(key="host.name").value.string_value = socket.gethostname()
    now = time.time_ns()
    owner.scope_logs.add().log_records.add(
        time_unix_nano=now, observed_time_unix_nano=now, severity_number=9, event_name="heartbeat"
    )
    return request.SerializeToString()


def create(name: str, config: HeartbeatConfig, consumer: Consumer, context: Context) -> Receiver:
    """Make the receiver of that name.

    ``consumer`` is the pipelines that name it, or what its settings (``endpoint``) or ``OTEL_EXPORTER_OTLP_ENDPOINT``
    say: the hub has seen to that, since the settings are `EmitterSettings`.
    """
    return HeartbeatReceiver(name, config, consumer)


COMPONENT = ReceiverComponent(settings=HeartbeatConfig, create=create, signals=frozenset({Signal.LOGS}))
