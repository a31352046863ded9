"""What is the same for everybody: the assets of the pages, the description of the API, and the page to try it with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from litestar import MediaType, Request, Response, get
from litestar.openapi.plugins import JsonRenderPlugin

from gateway.extensions.api.assets import Asset, assets
from gateway.extensions.api.problems import ProblemError
from gateway.extensions.api.templates import rendered

_FOREVER = "public, max-age=31536000, immutable"
_DAY = "max-age=86400"


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


def document_routes(document: Document, page: Mapping[str, object]) -> Sequence[Any]:
    """Make the handlers. ``page`` is what every page says around its own."""

    @get("/api/v1/docs", include_in_schema=False, sync_to_thread=False)
    def docs() -> Response[str]:
        return Response(rendered("api.html", **page), media_type=MediaType.HTML)

    @get("/api/v1/openapi.json", include_in_schema=False, sync_to_thread=False)
    def openapi(request: Request[Any, Any, Any]) -> Response[bytes]:
        return Response(document.of(request), media_type=MediaType.JSON)

    @get("/static/{name:path}", include_in_schema=False, sync_to_thread=False)
    def static(request: Request[Any, Any, Any]) -> Response[bytes]:
        name = str(request.path_params["name"]).lstrip("/")
        if (found := assets().get(name)) is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, f"there is nothing at {request.scope['path']}")
        return _sent(request, found, _FOREVER if request.query_params.get("v") == found.version else _DAY)

    @get("/favicon.ico", include_in_schema=False, sync_to_thread=False)
    def favicon(request: Request[Any, Any, Any]) -> Response[bytes]:
        return _sent(request, assets()["favicon.ico"], _DAY)

    return [docs, openapi, static, favicon]


def _sent(request: Request[Any, Any, Any], asset: Asset, kept: str) -> Response[bytes]:
    """Send an asset, compressed where the browser takes that, unless it has it already."""
    headers = {"cache-control": kept, "etag": f'"{asset.version}"', "vary": "accept-encoding"}
    if f'"{asset.version}"' in request.headers.get("if-none-match", ""):
        return Response(b"", status_code=HTTPStatus.NOT_MODIFIED, headers=headers, media_type=asset.content_type)
    content = asset.content
    if "gzip" in request.headers.get("accept-encoding", "") and len(asset.compressed) < len(content):
        content = asset.compressed
        headers["content-encoding"] = "gzip"
    return Response(content, headers=headers, media_type=asset.content_type)
