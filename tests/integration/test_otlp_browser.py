"""A web page that sends telemetry, in a real browser: by every way that pages have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.component import ACCEPTED, Batch, Outcome, Signal
from gateway.component.declaration import Context
from receivers.otlp.config import OtlpReceiverConfig
from receivers.otlp.factory import create
from tests.support.browser import CHROMIUM, browse

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on PATH")

PAGE = """<!doctype html><script>
const body = way => JSON.stringify({resourceLogs: [{scopeLogs: [{logRecords: [{body: {stringValue: way}}]}]}]});
const type = "application/json";
navigator.sendBeacon("%(url)s", new Blob([body("beacon")], {type}));
fetch("%(url)s", {method: "POST", headers: {"content-type": type}, body: body("fetch")});
fetch("%(url)s", {method: "POST", headers: {"content-type": type}, body: body("credentials"), credentials: "include"});
const request = new XMLHttpRequest();
request.open("POST", "%(url)s");
request.setRequestHeader("content-type", type);
request.send(body("xhr"));
</script>"""
WAYS = {b"beacon", b"fetch", b"credentials", b"xhr"}


class Pipeline:
    """A consumer that knows when all ways have led to it."""

    def __init__(self) -> None:
        self.came: set[bytes] = set()
        self.all = asyncio.Event()

    async def accept(self, batch: Batch) -> Outcome:
        self.came |= {way for way in WAYS if way in batch.payload}
        if self.came == WAYS:
            self.all.set()
        return ACCEPTED

    def refuse(self, signal: Signal, reason: str) -> None: ...

    def refuse_connection(self, listener: str, reason: str) -> None: ...


@asynccontextmanager
async def page(content: list[str]) -> AsyncIterator[str]:
    """A site of one page, whose content is the one entry of the list; yields its origin."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = content[0].encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("allowed", [True, False])
async def test_a_page_sends_by_every_way_there_is_if_its_origin_is_allowed(*, allowed: bool) -> None:
    content = [""]
    pipeline = Pipeline()
    async with page(content) as origin:
        cors = {"allowed_origins": [origin if allowed else "http://127.0.0.1:1"]}
        http = {"endpoint": "127.0.0.1:0", "cors": cors}
        receiver = create("otlp", OtlpReceiverConfig.model_validate({"protocols": {"http": http}}), pipeline, Context())
        await receiver.start()
        try:
            content[0] = PAGE % {"url": f"http://{receiver.endpoints['http']}/v1/logs"}
            _, console = await asyncio.to_thread(browse, f"{origin}/", "--dump-dom")
            assert ("CORS" in console) == (not allowed)
            assert pipeline.came == (WAYS if allowed else set())
        finally:
            await receiver.stop(5)
