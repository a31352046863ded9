"""The file that the tokens are kept in, hashed.

It is written by ``obs-hub token`` and read by the gateway, which looks now and then whether it has changed. It is
replaced as a whole: whoever reads sees it before or after a change.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pydantic import Field, ValidationError, field_validator

from gateway.base.settings import Settings
from gateway.extensions.tokens.token import Token
from gateway.files.durability import replace_file
from gateway.files.locks import FileLock

_MAX_BYTES = 16 * 2**20


class TokenFileError(Exception):
    """The file cannot be used. The message says which, why, and what to do."""


class UnknownTokenError(TokenFileError):
    """There is no token of that id."""


class _Content(Settings):
    version: int = Field(default=1, ge=1, le=1)
    tokens: tuple[Token, ...] = ()

    @field_validator("tokens")
    @classmethod
    def _told_apart(cls, tokens: tuple[Token, ...]) -> tuple[Token, ...]:
        if len({token.id for token in tokens}) < len(tokens):
            raise ValueError("two tokens have the same id")
        return tokens


class TokenFile:
    """The tokens in one file, to list and to change."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[Token, ...]:
        """Return the tokens; none when there is no file. Raises `TokenFileError` when it cannot be read."""
        try:
            with self.path.open("rb") as file:
                # The gateway lets in whom the file names, so whoever may write it decides that.
                if os.fstat(file.fileno()).st_mode & stat.S_IWOTH:
                    raise TokenFileError(f"{self.path} can be written by everybody; `chmod o-w` it, and look into it")
                text = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise TokenFileError(f"{self.path} cannot be read: {error.strerror}") from None
        if len(text) > _MAX_BYTES:
            raise TokenFileError(f"{self.path} is larger than {_MAX_BYTES >> 20} MiB; it is no file of tokens")
        try:
            return _Content.model_validate_json(text).tokens
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            known = {*_Content.model_fields, *Token.model_fields}
            where = ".".join(str(one) for one in first["loc"] if isinstance(one, int) or one in known) or "the file"
            raise TokenFileError(
                f"{self.path} is damaged ({where}: {first['msg']}); restore it, or remove it and make new tokens"
            ) from None

    def add(self, token: Token) -> None:
        """Add a token. Raises `TokenFileError`."""
        with self._locked():
            self._write((*self.read(), token))

    def revoke(self, identity: str) -> Token:
        """Remove a token and return it. Raises `UnknownTokenError` when there is none of that id."""
        with self._locked():
            tokens = self.read()
            for token in tokens:
                if token.id == identity:
                    self._write(tuple(one for one in tokens if one is not token))
                    return token
        raise UnknownTokenError(f"{self.path} has no token of the id {identity!r}; `obs-hub token list` shows them")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the file against other changes. The lock is a file of its own, for this one is replaced."""
        lock = FileLock(self.path.with_name(f"{self.path.name}.lock"))
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock.acquire(math.inf)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            yield
        finally:
            lock.release()

    def _write(self, tokens: tuple[Token, ...]) -> None:
        content = _Content(tokens=tokens).model_dump_json(indent=2, exclude_none=True) + "\n"
        try:
            replace_file(self.path, content.encode(), before=partial(_give_to_owner, path=self.path))
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> TokenFileError:
        return TokenFileError(f"{self.path} cannot be written: {error.strerror}; run as the user that runs the hub")


def _give_to_owner(descriptor: int, path: Path) -> None:
    """Give a file that root makes to the user whose file it replaces, or whose folder it lies in.

    Otherwise a token made by root would lock out the hub, which runs as another user.
    """
    if os.geteuid() != 0:
        return
    model = path if path.exists() else path.parent
    owner = model.stat()
    os.fchown(descriptor, owner.st_uid, owner.st_gid)
