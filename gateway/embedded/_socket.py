"""Where the server's socket is. The kernel bounds the length of its path, and data directories can be deep."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path

from gateway.embedded._account import Account
from gateway.embedded.errors import EmbeddedPostgresError

PORT = 5432
"""Part of the socket's name where no port is opened; else it is that port."""

_LONGEST = 107 if sys.platform == "linux" else 103


def socket_folder(directory: Path, account: Account) -> Path:
    """Make and return the folder of the socket, which no one but the account may enter.

    It lies in the server's directory, or, where that path is none for a socket, under the runtime or temporary
    directory with a name that follows from it. Raises `EmbeddedPostgresError` when someone else has that name.
    """
    folder = directory / "socket"
    if _fits(folder):
        _make(folder, account)
        return folder
    name = f"obs-hub-{hashlib.blake2b(os.fsencode(directory.resolve()), digest_size=8).hexdigest()}"
    for base in _short_folders(account):
        if _fits(base / name) and account.passes(base / name):
            _make(base / name, account)
            return base / name
    raise EmbeddedPostgresError(
        f"a socket's path may have {_LONGEST} bytes and no comma; neither {folder} nor the temporary directory allows "
        "for one; choose a --data-dir with a shorter path"
    )


def _fits(folder: Path) -> bool:
    # PostgreSQL's clients take a comma in a host for the end of its name.
    return "," not in str(folder) and len(os.fsencode(folder / ".s.PGSQL.65535")) <= _LONGEST


def _short_folders(account: Account) -> list[Path]:
    # The runtime directory is root's own where root starts the server for someone else.
    runtime = None if account.switch else os.environ.get("XDG_RUNTIME_DIR")
    named = [runtime, tempfile.gettempdir(), "/tmp"]  # noqa: S108 - _make checks whose it is
    return [path for path in (Path(name) for name in named if name) if path.is_dir()]


def _make(folder: Path, account: Account) -> None:
    try:
        folder.mkdir(mode=0o700)
        account.own(folder)
    except FileExistsError:
        pass
    except OSError as error:
        raise EmbeddedPostgresError(f"cannot make the folder of the socket {folder}: {error.strerror}") from error
    # In a directory that everyone may write to, someone else may have been first.
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (account.uid, os.geteuid()):
        raise EmbeddedPostgresError(f"{folder} belongs to someone else; remove it, or choose another --data-dir")
    account.own(folder)
    folder.chmod(0o700)
