"""Journals to read: real ones, written by systemd's own program, and a stand-in where that or journalctl is missing.

The stand-in is an executable ``journalctl`` that takes the options this project uses, refuses all others, and reads
entries from a file. What only the real one can show (damaged files, boots, what it does with bytes) is tested with the
real one alone.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tests.support.waiting import PATIENCE

BOOT = "0123456789abcdef0123456789abcdef"
MACHINE = "ab" * 16
_REMOTE = ("/usr/lib/systemd/systemd-journal-remote", "/lib/systemd/systemd-journal-remote")

Value = str | bytes
Fields = Mapping[str, Value]


def remote_program() -> str | None:
    """The program that writes journal files, of the Debian package systemd-journal-remote."""
    return next((path for path in _REMOTE if os.access(path, os.X_OK)), None)


def entry(message: Value, at: int | None = None, **fields: Value) -> dict[str, Value]:
    """An entry of a service, received at an instant in microseconds since the epoch, or now."""
    received = at or time.time_ns() // 1000
    return {
        "__REALTIME_TIMESTAMP": str(received),
        "__MONOTONIC_TIMESTAMP": str(received % 10**12),
        "_BOOT_ID": BOOT,
        "_MACHINE_ID": MACHINE,
        "_HOSTNAME": "nas",
        "_TRANSPORT": "journal",
        "_SYSTEMD_UNIT": "web.service",
        "SYSLOG_IDENTIFIER": "web",
        "PRIORITY": "6",
        "_PID": "42",
        "MESSAGE": message,
        **fields,
    }


class Journal(Protocol):
    """A journal in a directory, and the program to read it with."""

    directory: Path
    journalctl: str

    def write(self, *entries: Fields) -> None:
        """Add entries; they are there when this returns."""

    def vacuum(self) -> None:
        """Remove everything that was written so far, as old files are."""


class RealJournal:
    """Journal files, and the machine's own journalctl."""

    journalctl = "journalctl"

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self._number = 0

    @property
    def file(self) -> Path:
        """The file that is written to."""
        return self.directory / f"part-{self._number}.journal"

    def write(self, *entries: Fields) -> None:
        program = remote_program()
        assert program is not None
        subprocess.run(
            [program, "-o", str(self.file), "-"],
            input=b"".join(map(_exported, entries)),
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )

    def vacuum(self) -> None:
        for file in self.directory.glob("*.journal"):
            file.unlink()
        self._number += 1


class StandInJournal:
    """A file of entries, and a program that prints them as journalctl does."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        program = directory / "journalctl"
        program.write_text(f"#!{sys.executable} -SE\n{_PROGRAM}")
        program.chmod(0o755)
        self.journalctl = str(program)
        self._written = 0

    def write(self, *entries: Fields) -> None:
        lines = ""
        for fields in entries:
            self._written += 1
            cursor = f"s={MACHINE};i={self._written:x};b={BOOT};m=1;t={fields['__REALTIME_TIMESTAMP']!s};x=1"
            shown = {name: _printed(value) for name, value in fields.items()}
            lines += json.dumps({"__CURSOR": cursor, **shown}) + "\n"
        with (self.directory / "entries").open("a") as file:
            file.write(lines)

    def vacuum(self) -> None:
        (self.directory / "entries").write_text("")


def real_is_here() -> bool:
    """Whether real journals can be written and read."""
    return remote_program() is not None and shutil.which("journalctl") is not None


def _exported(fields: Fields) -> bytes:
    """An entry in the journal export format (systemd.io/JOURNAL_EXPORT_FORMATS)."""
    lines = []
    for name, value in fields.items():
        raw = value.encode() if isinstance(value, str) else value
        if isinstance(value, bytes) or b"\n" in raw:
            lines.append(name.encode() + b"\n" + struct.pack("<Q", len(raw)) + raw)
        else:
            lines.append(name.encode() + b"=" + raw)
    return b"\n".join(lines) + b"\n\n"


def _printed(value: Value) -> object:
    raw = value.encode() if isinstance(value, str) else value
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return list(raw)
    return list(raw) if any(ord(sign) < 32 and sign not in "\n\t" for sign in text) else text


_PROGRAM = """
import json, os, sys, time

KNOWN = {"--no-pager", "--output", "--all", "--directory", "--output-fields", "--cursor", "--lines", "--follow",
         "--no-tail", "--merge", "--boot", "--priority"}
ALWAYS = {"__CURSOR", "__REALTIME_TIMESTAMP", "__MONOTONIC_TIMESTAMP", "_BOOT_ID"}
PRIORITIES = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"]
options, alternatives = {}, [{}]
for argument in sys.argv[1:]:
    name, _, value = argument.partition("=")
    if argument == "+":
        alternatives.append({})
    elif not name.startswith("--"):
        alternatives[-1].setdefault(name, set()).add(value)
    elif name not in KNOWN:
        sys.exit(f"journalctl: unrecognized option '{argument}'")
    else:
        options[name] = value
if options["--output"] != "json" or "--all" not in options:
    sys.exit("journalctl: would leave out what is long")
if "--follow" in options and not {"--no-tail", "--merge", "--boot"} <= set(options):
    sys.exit("journalctl: would show the last lines of the current boot only")
fields = ALWAYS | set(options["--output-fields"].split(","))
broken = os.path.join(options["--directory"], "broken")
if os.path.exists(broken):
    sys.exit(open(broken).read())


def sequence(cursor):
    return int(dict(part.split("=") for part in cursor.split(";"))["i"], 16)


start = sequence(options["--cursor"]) if "--cursor" in options else 0


def wanted(entry):
    if sequence(entry["__CURSOR"]) < start:
        return False
    if "--priority" in options:
        if int(entry.get("PRIORITY", "9")) > PRIORITIES.index(options["--priority"]):
            return False
    return any(all(entry.get(name) in values for name, values in matches.items()) for matches in alternatives)


def show(entries):
    for entry in entries:
        print(json.dumps({name: value for name, value in entry.items() if name in fields}, separators=(",", ":")))
    sys.stdout.flush()


path = os.path.join(options["--directory"], "entries")
open(path, "a").close()
with open(path) as file:
    entries = [entry for entry in map(json.loads, file) if wanted(entry)]
    if "--lines" in options:
        entries = entries[:1] if "--cursor" in options else entries[-1:]
    show(entries)
    if not entries and "--follow" not in options:
        print("-- No entries --")
    while "--follow" in options:
        if os.getppid() == 1:
            sys.exit(0)
        where = file.tell()
        line = file.readline()
        if line.endswith("\\\\n"):
            show(entry for entry in [json.loads(line)] if wanted(entry))
            continue
        file.seek(where if os.path.getsize(path) >= where else 0)
        time.sleep(0.02)
""".replace("\\\\n", "\\n")
