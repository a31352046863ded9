"""A restore that comes to a halt half-way."""

from __future__ import annotations

import shlex
from pathlib import Path


def stuck_pg_restore(folder: Path, binaries: Path) -> tuple[Path, Path]:
    """Make a folder with PostgreSQL's programs, of which pg_restore stops half-way and stays: tables without indexes.

    ``binaries`` is where they really are. Returns it, and the file that has the process id of that pg_restore once it
    has stopped.
    """
    programs, pid = folder / "stuck", folder / "pid"
    programs.mkdir()
    (programs / "pg_dump").symlink_to(binaries / "pg_dump")
    real = shlex.quote(str(binaries / "pg_restore"))
    (programs / "pg_restore").write_text(
        f"""#!/bin/sh
case "$1" in --list | --version) exec {real} "$@" ;; esac
{real} --section=pre-data --section=data "$@" || exit
cd {shlex.quote(str(folder))} && echo $$ > pid.new && mv pid.new pid
exec sleep 600
"""
    )
    (programs / "pg_restore").chmod(0o755)
    return programs, pid
