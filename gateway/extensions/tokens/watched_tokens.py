"""The file of tokens as a running gateway sees it."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from gateway.extensions.tokens.limits import Rate
from gateway.extensions.tokens.token import Token
from gateway.extensions.tokens.token_file import TokenFile, TokenFileError
from gateway.files.file_changes import FileChanges

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_LOOK_EVERY = 1.0
"""Seconds between two looks whether the file has changed: so long at most a revoked token still works."""
_LOOKS_FOR_UNKNOWN = 10.0
"""Looks a second for tokens that are not known: as many as people need who have just made one, and what strangers who
make ids up can ask for. Beyond that, a new token is known once it is looked again, within a second."""


class WatchedTokens:
    """The tokens as the gateway sees them, by id: read again when the file has changed.

    A token that is new is known at once, for it is looked for when it is asked for; one that is revoked works a second.
    A file that cannot be read changes nothing and is logged, once for each change; one that is gone holds no tokens.
    """

    def __init__(self, file: TokenFile, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._changes: FileChanges | None = None  # nothing is read before somebody asks
        self._tokens: dict[str, Token] = {}
        self._looks = Rate(_LOOKS_FOR_UNKNOWN, clock())

    def get(self, identity: str) -> Token | None:
        """Return the token of that id."""
        if self._changes is None:
            self._changes = FileChanges([self._file.path], _LOOK_EVERY, self._clock)
            self._refresh()
        elif self._changes.seen(at_once=self._is_new(identity)):
            self._refresh()
        return self._tokens.get(identity)

    def _is_new(self, identity: str) -> bool:
        """Tell whether a token may have been made just now, so that it is worth a look."""
        return identity not in self._tokens and not self._looks.take(self._clock())

    def _refresh(self) -> None:
        try:
            tokens = self._file.read()
        except TokenFileError as error:
            _log.error("the tokens are not read again; those before stay valid", reason=str(error))
            return
        self._tokens = {token.id: token for token in tokens}
        if not self._file.path.exists():
            _log.warning("there is no file of tokens: nobody is let in", file=str(self._file.path))
        else:
            _log.info("tokens read", file=str(self._file.path), tokens=len(tokens))
