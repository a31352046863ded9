"""What a result needs to have said about it: warnings (the result may be wrong) and infos (the query may be)."""

from __future__ import annotations

from collections.abc import Iterable


class Annotations:
    """Warnings and infos of one query, each said once, in the order in which they came up.

    The texts are those that a client shows: ``PromQL warning: …`` and ``PromQL info: …`` where the language says so.
    """

    __slots__ = ("_infos", "_warnings")

    def __init__(self) -> None:
        self._warnings: dict[str, None] = {}
        self._infos: dict[str, None] = {}

    def warn(self, text: str) -> None:
        """Add a warning: the result may be incomplete or wrong."""
        self._warnings[text] = None

    def info(self, text: str) -> None:
        """Add an info: the query may not do what was meant."""
        self._infos[text] = None

    def merge(self, other: Annotations) -> None:
        """Add what `other` has."""
        self._warnings.update(other._warnings)
        self._infos.update(other._infos)

    @property
    def warnings(self) -> list[str]:
        """The texts of the warnings."""
        return list(self._warnings)

    @property
    def infos(self) -> list[str]:
        """The texts of the infos."""
        return list(self._infos)

    def __bool__(self) -> bool:
        return bool(self._warnings or self._infos)


def shown(texts: Iterable[str], limit: int) -> list[str]:
    """Return the first `limit` of the texts, and a last one that says how many there are besides (0: no bound)."""
    listed = list(texts)
    if not limit or len(listed) <= limit:
        return listed
    return [*listed[:limit], f"{len(listed) - limit} more annotations omitted"]
