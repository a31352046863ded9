"""Bodies of HTTP requests on their way from the socket to whoever answers: how much of all of them is kept, and that
nothing is answered with success whose body did not arrive whole.

`Bodies` is one for all HTTP listeners of a process; `Body` is what the protocol counts of one request; `Whole` stands
around an application.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.component.errors import MalformedPayloadError, OverloadedError

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Message, Receive, Send

_MOST = 256 * 2**20
"""Bytes kept at most of bodies that nobody has taken over yet, as gRPC's listeners have it; see `Bodies`."""

_KEY = "obs_hub_body"
"""Where the body of a request is kept in its ASGI state."""

_BODILESS = ("GET", "HEAD", "OPTIONS")


class Bodies:
    """The bytes of all bodies that are arriving, or that nobody has taken over yet.

    ``most`` is how many there may be. A request that goes beyond is refused, and its client is asked to come back.
    """

    def __init__(self, most: int = _MOST) -> None:
        self.most = most
        self.held = 0

    def make_room_for(self, largest: int) -> None:
        """Have room for two bodies of a listener's largest size, whatever that is."""
        self.most = max(self.most, 2 * largest)


class Body:
    """What is kept of one body. Release it in the end, whatever came of it."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._held = 0
        self._released = False
        self.refused = False

    def take(self, size: int) -> bool:
        """Count ``size`` bytes that have arrived. Returns whether they may be kept."""
        if self._released:
            return False
        if self._bodies.held + size > self._bodies.most:
            self.refused = True
            self.release()
            return False
        self._held += size
        self._bodies.held += size
        return True

    def release(self) -> None:
        """Count it no longer: it was handed on to somebody who counts it, or dropped. Harmless when repeated."""
        self._released = True
        self._bodies.held -= self._held
        self._held = 0

    def bind(self, scope: Any) -> None:
        """Let the application of an ASGI scope find it."""
        scope["state"][_KEY] = self


def body_of(scope: Any) -> Body:
    """Return the body of a request; one that counts for nobody where no protocol of ours stands before it."""
    body = scope.get("state", {}).get(_KEY)
    return body if isinstance(body, Body) else Body(Bodies())


class Whole:
    """Stands around an application: what it answers with success, it has been given whole.

    The lengths are compared here once more, though the protocol goes by them, because a body that was lost in between
    would be acknowledged and gone.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(scope, receive, send)
        try:
            await self._app(scope, request.receive, request.send)
        finally:
            request.body.release()


class _Request:
    def __init__(self, scope: Any, receive: Receive, send: Send) -> None:
        self.body = body_of(scope)
        self._receive = receive
        self._send = send
        headers = {name: value for name, value in scope["headers"] if name in (b"content-length", b"expect")}
        self._announced = int(headers.get(b"content-length", b"0")) if b"content-length" in headers else None
        self._expects = headers.get(b"expect", b"").lower() == b"100-continue"
        self._bodiless = scope["method"] in _BODILESS
        self._size = 0
        self._asked = self._whole = False

    async def receive(self) -> Any:
        """Hand on a piece of the body. Raises `OverloadedError` and `MalformedPayloadError`."""
        self._asked = True
        message: Any = await self._receive()
        if self.body.refused:
            raise OverloadedError("too many requests are arriving at once; please retry")
        if message["type"] == "http.request" and not self._whole:
            self._size += len(message["body"])
            if not message["more_body"]:
                if self._announced not in (None, self._size):
                    raise MalformedPayloadError(
                        f"{self._size} bytes of the body arrived, of {self._announced} that its Content-Length says"
                    )
                self._whole = True
        return message

    async def send(self, message: Message) -> None:
        """Hand on an answer; before one of success, wait for what is left of the body."""
        if message["type"] == "http.response.start":
            if 200 <= message["status"] < 300 and not self._bodiless:
                await self._read_on()
            if self._expects and not self._asked:
                # The client may send its body all the same or leave it away (RFC 9110, 10.1.1): what comes next on this
                # connection would be anybody's guess.
                message["headers"] = [*message["headers"], (b"connection", b"close")]
        await self._send(message)

    async def _read_on(self) -> None:
        while not self._whole:
            if (await self.receive())["type"] == "http.disconnect":
                return  # nobody is there to be told anything
