"""Room for calls that last as long as their clients like, and that nobody has to sign in for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

_MOST = 1000
_MOST_OF_ONE = 8


class StreamLimit:
    """How many such calls there may be at once: ``most`` of all clients, eight of one connection, which needs one."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._taken: Counter[object] = Counter()

    def take(self, connection: object) -> Callable[[], None] | None:
        """Take a seat for a call. Returns what gives it back, harmless when repeated; None when there is none left."""
        if self._taken[connection] >= _MOST_OF_ONE or self._taken.total() >= self._most:
            if not self._taken[connection]:
                del self._taken[connection]
            return None
        self._taken[connection] += 1
        seated = True

        def leave() -> None:
            nonlocal seated
            if seated:
                seated = False
                self._taken[connection] -= 1
                if not self._taken[connection]:
                    del self._taken[connection]

        return leave
