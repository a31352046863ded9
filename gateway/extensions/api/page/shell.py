"""What all views of the page share: who may look, how it is shown, and how it stays true while somebody looks.

**To add a view**, write a module beside this one with a `View`, and name it in `views.VIEWS`:

.. code-block:: python

    def read(reader: Reader, asked: Asked) -> Mapping[str, object]:
        return {"lines": lines.latest(reader.reading, asked.range, service=asked.text("service"))}

    VIEW = View(path="/lines", name="Lines", template="live/lines.html", read=read, every=5)

- ``read`` runs in a thread of the queries and returns the values of the template. What it reads the store by, it takes
  from `Reader`: a connection of its own, bounded in time and size. The SQL stands in `gateway.query`. It raises
  `QueryError` (`BadQueryError` for what is wrong with the URL); the page then says that.
- The template, ``page/templates/live/lines.html``, extends ``live/view.html`` and fills its blocks: ``title``,
  ``heading``, ``tools`` (the ranges to choose from, unless it says otherwise), ``above`` (forms: what nothing may
  replace while somebody writes) and ``live``: the part that changes, which is rendered by itself as well, so that it
  imports its macros inside of the block. Besides the values it knows ``asked`` (`Asked`: ``asked.url(q="x")``
  is this page with another parameter, ``asked.range`` the time range), ``link`` (`view.link`, a URL of another view)
  and ``host_link``. Everything that is printed is escaped; nothing is marked safe that a sender may have a word in.
  There are no inline scripts and no ``style`` attributes: browsers refuse them here.
- The same URL gives three things: the page; with the header ``HX-Request`` the block that ``HX-Target`` names (or
  ``live``) alone, for htmx; with ``accept: text/event-stream`` the block ``live`` whenever it has changed, read every
  ``View.every`` seconds (more seldom for long ranges) once for all who look at the same URL. A range that ends at a
  fixed time is not read again.
- Where a reading takes more than a fiftieth of the time until the next, there are fewer (`live.pause_for`), and the
  page says so.
- What the block ``live`` brings is merged into the page by ``id``: give an ``id`` to whatever comes and goes.

Links and forms work by themselves, with all state in the URL; scripts make them quicker, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.response import Stream

from gateway import __version__
from gateway.extensions.api.page.live import Live, NothingReadError, TooManyStreamsError, while_admitted
from gateway.extensions.api.page.sign_in import Door, sign_in_routes
from gateway.extensions.api.page.view import Asked, Reader, View, host_link, link
from gateway.extensions.api.problems import ProblemError, on_access_error
from gateway.extensions.api.status import HubStatus, Probe
from gateway.extensions.api.templates import block, rendered
from gateway.net.access import PermissionDeniedError, UnauthenticatedError
from gateway.query import resources
from gateway.query.errors import BadQueryError, LimitExceededError, QueryError, StoreAwayError

if TYPE_CHECKING:
    from gateway.extensions.api.queries import Queries
    from gateway.extensions.view import HubView
    from gateway.query.limits import Usage

_SECONDS = 20.0
"""How long a page may take, its waiting for other queries included."""
_READINGS = 600
"""How often what is drawn is read while a range passes by."""
_LONGEST_PAUSE = 60.0
_STREAM = "text/event-stream"
_WORTH_COMPRESSING = 1000

_STATUSES = {"canceled": 499}
"""Of a `QueryError`; any other is answered with 503, for it passes: a store that is away, or too much at once."""


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

_Request = Request[Any, Any, Any]


class Shell:
    """The page of a hub. ``links`` lead elsewhere, by their names."""

    def __init__(
        self, hub: HubView, queries: Queries, door: Door, views: Sequence[View], links: Mapping[str, str]
    ) -> None:
        self._hub = hub
        self._queries = queries
        self._door = door
        self._views = views
        self._probe = Probe(hub)
        self._live: Live[tuple[View, Asked]] = Live(lambda key: self._part(*key))
        self.around: dict[str, object] = {
            "links": links,
            "views": [(view.name, view.path) for view in views if view.name],
            "link": link,
            "host_link": host_link,
            "most_names": resources.MOST,
        }
        """What every page says around its own."""

    def routes(self) -> list[Any]:
        """Make the handlers."""
        return [*map(self._route, self._views), *sign_in_routes(self._door, self._sign_in_form)]

    def close(self) -> None:
        """Let the pages that are open go, so that nobody waits for them."""
        self._live.close()

    def _route(self, view: View) -> Any:
        @get(view.path, include_in_schema=False)
        async def show(request: _Request) -> Response[Any] | Stream:
            return await self._answer(view, request)

        return show

    async def _answer(self, view: View, request: _Request) -> Response[Any] | Stream:
        accept = request.headers.get("accept", "")
        streamed = accept.startswith(_STREAM)
        wanted = request.accept.best_match([MediaType.JSON, MediaType.HTML])
        if view.path == "/" and not streamed and wanted != MediaType.HTML:
            return Response(Welcome("Observability Hub", __version__, _LINKS), headers={"vary": "accept"})
        if self._door.asks and not self._door.opens and wanted == MediaType.HTML and not streamed:
            return await self._sign_in_form(request, HTTPStatus.FORBIDDEN, "", "/")
        try:
            self._door.admit(request)
        except (UnauthenticatedError, PermissionDeniedError) as error:
            if streamed or "hx-request" in request.headers or wanted != MediaType.HTML:
                return on_access_error(request, error)
            here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return await self._sign_in_form(request, HTTPStatus.UNAUTHORIZED, "", here)
        asked = _asked(view, request)
        if streamed:
            return self._stream(view, asked, request)
        if "hx-request" in request.headers and "hx-history-restore-request" not in request.headers:
            name = request.headers.get("hx-target", "live")
            return _html(request, await self._fragment(view, asked, name, request))
        return await self._page(view, asked, request)

    async def _page(self, view: View, asked: Asked, request: _Request) -> Response[bytes]:
        around = {
            **self.around,
            "current": view.under or view.path,
            "session": self._door.signed_in(request),
            "asked": asked,
        }
        try:
            values = await self._values(view, asked, request)
        except BadQueryError as error:
            raise ProblemError(HTTPStatus.BAD_REQUEST, str(error)) from error  # asked again, it would be no better
        except QueryError as error:
            passes = not isinstance(error, LimitExceededError)
            page = rendered("live/unavailable.html", **around, problem=_sentence(error), passes=passes)
            return _html(request, page, _STATUSES.get(error.kind, HTTPStatus.SERVICE_UNAVAILABLE))
        return _html(request, rendered(view.template, **around, **values))

    async def _fragment(self, view: View, asked: Asked, name: str, request: _Request | None = None) -> str:
        """Return a block of a view as it is now; a few words where it cannot be read."""
        try:
            return await self._block(view, asked, name, request)
        except QueryError as error:
            return _trouble(error)

    async def _part(self, view: View, asked: Asked) -> str:
        """Return what changes of a view, for all pages that look at it."""
        try:
            return await self._block(view, asked, "live", None)
        except StoreAwayError as error:
            raise NothingReadError(_trouble(error)) from error
        except QueryError as error:
            return _trouble(error)

    async def _block(self, view: View, asked: Asked, name: str, request: _Request | None) -> str:
        asked = replace(asked, now=datetime.now(UTC))
        values = await self._values(view, asked, request)
        return block(view.template, name, {**self.around, **values, "asked": asked})

    async def _values(self, view: View, asked: Asked, request: _Request | None) -> Mapping[str, object]:
        loop = asyncio.get_running_loop()

        def work(usage: Usage) -> Mapping[str, object]:
            def status() -> HubStatus:
                return asyncio.run_coroutine_threadsafe(self._probe.status(), loop).result(usage.seconds_left)

            with contextlib.ExitStack() as opened:
                return view.read(Reader(self._queries.service, usage, self._hub, status, opened), asked)

        found = await self._queries.run(work, _SECONDS, None if request is None else request.receive)
        live = view.every > 0 and asked.range.name is not None
        return {**view.extra, **found, "live": live}

    def _stream(self, view: View, asked: Asked, request: _Request) -> Stream | Response[None]:
        if not view.every or asked.range.name is None:
            return Response(None, status_code=HTTPStatus.NO_CONTENT)  # which browsers do not ask again for
        # What is asked is the same for all who ask it, whenever that is.
        key = view, replace(asked, now=datetime.fromtimestamp(0, UTC))
        try:
            events = self._live.stream(key, _pause(view, asked.range.seconds))
        except TooManyStreamsError:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE, "too many pages are open; please try again", {"retry-after": "30"}
            ) from None
        events = while_admitted(events, lambda: self._door.still_admits(request))
        return Stream(events, media_type=_STREAM, headers={"cache-control": "no-store", "x-accel-buffering": "no"})

    async def _sign_in_form(self, request: _Request, status: HTTPStatus, problem: str, target: str) -> Response[Any]:
        page = rendered(
            "sign_in.html",
            **self.around,
            problem=problem,
            target=target,
            opens=self._door.opens,
            state=(await self._probe.readiness()).status,
            here=str(request.base_url).rstrip("/"),
            # A link from elsewhere brings no cookie along; asked for by this page itself, the same URL does.
            again=request.headers.get("sec-fetch-site") == "cross-site" and request.method == "GET",
        )
        answer = _html(request, page, status)
        if status is HTTPStatus.UNAUTHORIZED:
            answer.headers["www-authenticate"] = 'Bearer realm="obs-hub"'
        return answer


def _pause(view: View, seconds: float) -> float:
    """Return how long to wait between two readings: of a longer range, less changes, and there is more to read."""
    return max(view.every, min(seconds / _READINGS, _LONGEST_PAUSE))


def _asked(view: View, request: _Request) -> Asked:
    asked = Asked(
        request.url.path,
        {name: str(value).lstrip("/") for name, value in request.path_params.items()},
        tuple((name, value) for name, value in request.query_params.multi_items()),
        str(request.base_url).rstrip("/"),
        datetime.now(UTC),
        view.default_range,
    )
    try:
        asked.range  # noqa: B018 - what is wrong with it is said at once
        if "\0" in "".join([*asked.path.values(), *(text for pair in asked.query for text in pair)]):
            raise BadQueryError("a URL of the page has no NUL in it, and neither has anything in the store")
    except BadQueryError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, str(error)) from error
    return asked


def _html(request: _Request, text: str, status: int = HTTPStatus.OK) -> Response[bytes]:
    content = text.encode()
    headers = {"vary": "accept, accept-encoding, hx-request, hx-target"}
    if len(content) >= _WORTH_COMPRESSING and "gzip" in request.headers.get("accept-encoding", ""):
        content = gzip.compress(content, 4, mtime=0)
        headers["content-encoding"] = "gzip"
    return Response(content, status_code=status, media_type=MediaType.HTML, headers=headers)


def _trouble(error: QueryError) -> str:
    return rendered("live/trouble.html", problem=_sentence(error))


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
