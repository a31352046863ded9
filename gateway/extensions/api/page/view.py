"""What a view of the page is: where it stands, what it reads, and how it looks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from gateway.extensions.api.page.ranges import DEFAULT, Range, range_of

if TYPE_CHECKING:
    from gateway.extensions.api.status import HubStatus
    from gateway.extensions.view import HubView
    from gateway.query.limits import Usage
    from gateway.query.reading.connection import Reading
    from gateway.query.reading.querier import StoreQuerier
    from gateway.query.service import QueryService


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, all of it from the URL.

    ``path`` has the parameters of the path, ``query`` those of the query in the order in which they came, ``now`` is
    when it was asked, and ``here`` the origin by which the browser knows the hub, such as ``http://127.0.0.1:8085``.
    """

    address: str
    path: Mapping[str, str] = field(hash=False)
    query: tuple[tuple[str, str], ...]
    here: str
    now: datetime
    default_range: str = DEFAULT

    def text(self, name: str, default: str = "") -> str:
        """Return a parameter of the query: the first of that name which is not empty."""
        return next((value for key, value in self.query if key == name and value), default)

    def all(self, name: str) -> list[str]:
        """Return all parameters of a name that are not empty."""
        return [value for key, value in self.query if key == name and value]

    @property
    def range(self) -> Range:
        """The time range. Raises `BadQueryError` for one that makes no sense."""
        return range_of({name: self.text(name) for name in ("range", "from", "to")}, self.now, self.default_range)

    def url(self, **changes: str | None) -> str:
        """Return this page's URL with some parameters changed; None leaves one out.

        A changed ``range`` leaves ``from`` and ``to`` out, and the other way round. What Python takes for a keyword
        may end with an underscore: ``from_``.
        """
        changes = {name.rstrip("_"): value for name, value in changes.items()}
        gone = set(changes)
        if "range" in gone:
            gone |= {"from", "to"}
        if "from" in gone or "to" in gone:
            gone.add("range")
        kept = [(name, value) for name, value in self.query if name not in gone]
        query = urlencode([*kept, *((name, value) for name, value in changes.items() if value is not None)])
        return f"{self.address}?{query}" if query else self.address


class Reader:
    """What a view reads with, in a thread of its own; it opens nothing that is not asked for.

    ``usage`` bounds all of it: `usage.check` raises when nobody waits any more. ``hub`` is the hub as it runs.
    """

    def __init__(
        self,
        service: QueryService,
        usage: Usage,
        hub: HubView,
        status: Callable[[], HubStatus],
        opened: contextlib.ExitStack,
    ) -> None:
        self.service = service
        self.usage = usage
        self.hub = hub
        self.status = status
        """Asks the hub how it is, without the store's help."""
        self._opened = opened

    @cached_property
    def reading(self) -> Reading:
        """A connection to the store. Raises `QueryError` where there is none, or where it does not answer."""
        return self._opened.enter_context(self.service.reading(self.usage))

    @cached_property
    def querier(self) -> StoreQuerier:
        """What reads series by Prometheus's names, by the same connection."""
        return self.service.querier_of(self.reading)


Read = Callable[[Reader, Asked], Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """One view. See `gateway.extensions.api.page.shell` for how one is made."""

    path: str
    """Such as ``/hosts/{name:path}``; a parameter of the type ``path`` may have slashes in it."""
    template: str
    """Below ``page/templates``. It extends ``base.html``, and its block ``live`` is what changes."""
    read: Read
    name: str = ""
    """What it is called in the navigation; empty: it is not there."""
    under: str = ""
    """The path of the view in the navigation that it belongs to; empty: its own."""
    every: float = 0.0
    """Seconds between two readings for pages that look at it; 0: it does not change by itself."""
    default_range: str = DEFAULT
    extra: Mapping[str, object] = field(default_factory=dict)
    """Values of its template that are always the same."""


def host_link(name: str | None, **query: str | None) -> str:
    """Return the URL of a host. One whose name browsers would take for a way to somewhere else has it in the query."""
    name = name or ""
    if {"", ".", ".."}.isdisjoint(name.split("/")):
        return link(f"/hosts/{name}", **query)
    return link("/hosts", name=name, **query)


def link(path: str, /, **query: str | None) -> str:
    """Return a URL of the page: ``link("/hosts/" , …)``. Parameters that are None or empty are left out.

    ``path`` is escaped but for its slashes.
    """
    found = urlencode({name.rstrip("_"): value for name, value in query.items() if value})
    return quote(path) + (f"?{found}" if found else "")
