"""The page, its assets, and the page to try the API with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.static_files import create_static_files_router

from gateway import __version__
from gateway.extensions.api.status import Probe
from gateway.extensions.api.templates import FOLDER, rendered
from gateway.extensions.view import HubView


class Welcome(msgspec.Struct):
    """What programs get where people get the page."""

    name: str
    version: str
    links: dict[str, str]


_LINKS = {
    "health": "/api/v1/health",
    "ready": "/api/v1/ready",
    "status": "/api/v1/status",
    "openapi": "/api/v1/openapi.json",
    "docs": "/api/v1/docs",
}


class Document(JsonRenderPlugin):
    """The OpenAPI document. It is written once: nobody is asked for a token for it, and it takes milliseconds."""

    def __init__(self, path: str = "/openapi.json") -> None:
        super().__init__(path=path, media_type=MediaType.JSON)
        self._written: bytes | None = None

    def of(self, request: Request[Any, Any, Any]) -> bytes:
        """Return it as JSON."""
        if self._written is None:
            self._written = self.render_json(request, request.app.openapi_schema.to_schema())
        return self._written

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Answer where Litestar serves it."""
        return self.of(request)


def page_routes(view: HubView, links: Mapping[str, str], document: Document, *, reads_are_open: bool) -> Sequence[Any]:
    """Make the handlers of the page and a router for its assets. ``links`` lead elsewhere, by their names.

    Where reading needs a token, which a page has not, it says how the hub is and nothing of what runs.
    """
    probe = Probe(view)
    icon = (FOLDER / "static" / "favicon.ico").read_bytes()

    def page_of(template: str, **values: object) -> Response[str]:
        return Response(rendered(template, links=links, **values), media_type=MediaType.HTML)

    @get("/", include_in_schema=False)
    async def index(request: Request[Any, Any, Any]) -> Response[Any]:
        if request.accept.best_match([MediaType.JSON, MediaType.HTML]) != MediaType.HTML:
            return Response(Welcome("Observability Hub", __version__, _LINKS), headers={"vary": "accept"})
        here = str(request.base_url).rstrip("/")
        page = page_of("index.html", status=await probe.status(), reads_are_open=reads_are_open, here=here)
        page.headers["vary"] = "accept"
        return page

    @get("/api/v1/docs", include_in_schema=False, sync_to_thread=False)
    def docs() -> Response[str]:
        return page_of("api.html")

    @get("/api/v1/openapi.json", include_in_schema=False, sync_to_thread=False)
    def openapi(request: Request[Any, Any, Any]) -> Response[bytes]:
        return Response(document.of(request), media_type=MediaType.JSON)

    @get("/favicon.ico", include_in_schema=False, sync_to_thread=False)
    def favicon() -> Response[bytes]:
        return Response(icon, media_type="image/x-icon", headers={"cache-control": "max-age=86400"})

    static = create_static_files_router(
        path="/static", directories=[FOLDER / "static"], include_in_schema=False, cache_control=None
    )
    return [index, docs, openapi, favicon, static]
