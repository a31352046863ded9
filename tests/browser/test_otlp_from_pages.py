"""A web page that sends telemetry: by every way that pages have."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from gateway.component import ACCEPTED, Batch, Outcome, Signal
from gateway.component.declaration import Context
from receivers.otlp.config import OtlpReceiverConfig
from receivers.otlp.factory import create
from tests.support.threads import in_thread
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Page

PAGE = """<!doctype html><title>sends</title><script>
const body = way => JSON.stringify({resourceLogs: [{scopeLogs: [{logRecords: [{body: {stringValue: way}}]}]}]});
const headers = {"content-type": "application/json"}, method = "POST";
navigator.sendBeacon("%(url)s", new Blob([body("beacon")], {type: headers["content-type"]}));
const request = new XMLHttpRequest();
request.open(method, "%(url)s");
request.setRequestHeader("content-type", headers["content-type"]);
request.send(body("xhr"));
Promise.allSettled([
  fetch("%(url)s", {method, headers, body: body("fetch")}),
  fetch("%(url)s", {method, headers, body: body("credentials"), credentials: "include"}),
  new Promise(done => request.onloadend = done),
]).then(() => document.title = "has sent");
</script>"""
WAYS = {b"beacon", b"fetch", b"credentials", b"xhr"}


class Pipeline:
    """A consumer that knows when all ways have led to it."""

    def __init__(self) -> None:
        self.came: set[bytes] = set()
        self.all = threading.Event()

    async def accept(self, batch: Batch) -> Outcome:
        self.came |= {way for way in WAYS if way in batch.payload}
        if self.came == WAYS:
            self.all.set()
        return ACCEPTED

    def refuse(self, signal: Signal, reason: str) -> None: ...

    def refuse_connection(self, listener: str, reason: str) -> None: ...


@contextmanager
def site(content: list[str]) -> Iterator[str]:
    """A site of one page, whose content is the one entry of the list; yields its origin."""

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(content[0].encode())

        def log_message(self, *_: object) -> None:
            """Tell nobody."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@asynccontextmanager
async def receiver_of(pipeline: Pipeline, *origins: str) -> AsyncIterator[str]:
    """A receiver that pages of these origins may send to; yields where it takes logs."""
    http = {"endpoint": "127.0.0.1:0", "cors": {"allowed_origins": origins}}
    receiver = create("otlp", OtlpReceiverConfig.model_validate({"protocols": {"http": http}}), pipeline, Context())
    await receiver.start()
    try:
        yield f"http://{receiver.endpoints['http']}/v1/logs"
    finally:
        await receiver.stop(5)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_page_sends_by_every_way_there_is_if_its_origin_is_allowed(page: Page, *, allowed: bool) -> None:
    content, pipeline = [""], Pipeline()
    said: list[str] = []
    page.once("console", lambda message: said.append(message.text))
    with (
        site(content) as origin,
        in_thread(receiver_of(pipeline, origin if allowed else "http://127.0.0.1:1"), "receiver") as url,
    ):
        content[0] = PAGE % {"url": url}
        page.goto(f"{origin}/")
        page.wait_for_function("document.title === 'has sent'")
        if allowed:
            assert pipeline.all.wait(PATIENCE)
            assert said == []
        else:
            assert pipeline.came == set()
            assert "CORS" in said[0]
