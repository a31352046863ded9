"""The health service, which everybody may ask."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest

from receivers.otlp.grpc_messages import StatusError
from receivers.otlp.grpc_services import HEALTH_SERVICE, Health
from receivers.otlp.stream_limit import StreamLimit

WATCH, CHECK = f"/{HEALTH_SERVICE}/Watch", f"/{HEALTH_SERVICE}/Check"


class Asking:
    """A call on some connection."""

    def __init__(self, connection: object) -> None:
        self.connection = connection
        self.sent = asyncio.Event()

    def send(self, _: bytes) -> None:
        self.sent.set()


async def test_watchers_of_all_connections_are_bounded_together() -> None:
    health = Health(seats=StreamLimit(3))
    watch = health.methods()[WATCH]

    async def begin(connection: object) -> asyncio.Task[None]:
        call = Asking(connection)
        task = asyncio.create_task(watch.admit(cast("Any", call)).answer(b""))
        await asyncio.wait((task, asyncio.create_task(call.sent.wait())), return_when=asyncio.FIRST_COMPLETED)
        return task

    watching = [await begin(object()) for _ in range(3)]
    with pytest.raises(StatusError, match="too many watchers"):
        await (await begin(object()))
    watching[0].cancel()
    await asyncio.wait(watching[:1])
    watching.append(await begin(object()))
    health.stop()
    await asyncio.gather(*watching[1:])


async def test_a_question_is_short() -> None:
    check = Health().methods()[CHECK].admit(cast("Any", Asking(None)))
    check.resize(len(HealthCheckRequest(service="a.service").SerializeToString()))
    with pytest.raises(StatusError) as caught:
        check.resize(2**20)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
