"""Which unit an entry belongs to, and whether that is one to send."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from receivers.journald.values import text

_SUFFIXES = (
    ".service",
    ".socket",
    ".device",
    ".mount",
    ".automount",
    ".swap",
    ".target",
    ".path",
    ".timer",
    ".slice",
    ".scope",
)
_REMEMBERED = 4096

FIELDS = ("_SYSTEMD_UNIT", "_SYSTEMD_USER_UNIT", "UNIT", "USER_UNIT", "COREDUMP_UNIT", "COREDUMP_USER_UNIT")
"""The fields of an entry that `unit_of` finds its units in."""


def full_name(unit: str) -> str:
    """Return a unit's name with its suffix, as systemctl completes it: ``nginx`` is ``nginx.service``."""
    return unit if is_pattern(unit) or unit.endswith(_SUFFIXES) else f"{unit}.service"


def is_pattern(unit: str) -> bool:
    """Tell whether a name stands for several units."""
    return any(sign in unit for sign in "*?[")


def unit_of(entry: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the system unit and the user unit that an entry belongs to.

    What systemd and its core dump handler say *about* a unit belongs to that unit, as ``journalctl --unit`` has it.
    Anybody can write such fields, so they count only from process 1, a user's own manager, or root.
    """
    unit, user_unit = text(entry.get("_SYSTEMD_UNIT")), text(entry.get("_SYSTEMD_USER_UNIT"))
    if entry.get("_PID") == "1":
        unit = text(entry.get("UNIT")) or unit
    elif entry.get("_UID") == "0" and "COREDUMP_UNIT" in entry:
        unit = text(entry["COREDUMP_UNIT"]) or unit
        user_unit = text(entry.get("COREDUMP_USER_UNIT")) or user_unit
    elif unit is not None and unit.startswith("user@") and "USER_UNIT" in entry:
        user_unit = text(entry["USER_UNIT"]) or user_unit
    return unit, user_unit


class UnitFilter:
    """Tells which entries to send. Patterns are shell patterns, as `fnmatch` reads them."""

    def __init__(self, include: Iterable[str], exclude: Iterable[str]) -> None:
        self._include = tuple(map(full_name, include))
        self._exclude = tuple(map(full_name, exclude))
        self._known: dict[tuple[str | None, str | None], bool] = {}

    def wants(self, entry: dict[str, Any]) -> bool:
        """Tell whether an entry is of a unit to send."""
        if not self._include and not self._exclude:
            return True
        units = unit_of(entry)
        wanted = self._known.get(units)
        if wanted is None:
            wanted = (not self._include or _any(units, self._include)) and not _any(units, self._exclude)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[units] = wanted
        return wanted


def _any(units: Iterable[str | None], patterns: Iterable[str]) -> bool:
    names = [unit for unit in units if unit]
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)
