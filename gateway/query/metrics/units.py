"""Values with their units (UCUM, as OpenTelemetry has them), scaled for reading."""

from __future__ import annotations

import math
from collections.abc import Iterable

from gateway.base.instants import SECOND, rounded, short_duration

_NANOSECONDS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": SECOND, "min": 60 * SECOND, "h": 3600 * SECOND}
_BYTES = {"By": 1, "KiBy": 2**10, "MiBy": 2**20, "GiBy": 2**30, "kBy": 10**3, "MBy": 10**6, "GBy": 10**9}
_SHOWN = {"Cel": "°C", "%": "%", "bit": "bit", "Hz": "Hz", "W": "W", "V": "V", "A": "A", "J": "J", "rpm": "rpm"}


class Unit:
    """How values of a metric are shown. A ratio (unit 1, never above 1, not just 0 and 1) is shown in per cent."""

    def __init__(self, unit: str, values: Iterable[float | None] = (), *, per_second: bool = False) -> None:
        known = [abs(value) for value in values if value is not None]
        ratio = unit == "1" and not per_second and max(known, default=2) <= 1 and any(value % 1 for value in known)
        self._unit = "ratio" if ratio else unit
        self._suffix = "/s" if per_second else ""

    def show(self, value: float | None) -> str:
        """Return a value as text of a few letters."""
        if value is None or not math.isfinite(value):
            return "-" if value is None else str(value)
        return self._scaled(value) + self._suffix

    def _scaled(self, value: float) -> str:
        unit = self._unit
        if unit == "ratio":
            return f"{rounded(value * 100)} %"
        if unit in _NANOSECONDS and not self._suffix:
            return short_duration(value * _NANOSECONDS[unit])
        if unit in _BYTES:
            return _prefixed(value * _BYTES[unit], 1024, ("", "Ki", "Mi", "Gi", "Ti", "Pi"), "B")
        shown = _SHOWN.get(unit, "" if unit == "1" or unit.startswith("{") else unit)
        if unit in ("Cel", "%", "rpm"):
            return f"{rounded(value)} {shown}"
        return _prefixed(value, 1000, ("", "k", "M", "G", "T", "P"), shown)


def _prefixed(value: float, step: int, prefixes: tuple[str, ...], unit: str) -> str:
    power = 0
    while abs(value) >= step and power < len(prefixes) - 1:
        value /= step
        power += 1
    # Below one, no prefixes: 0.25 reads better than 250 m.
    return f"{rounded(value)} {prefixes[power]}{unit}".rstrip()
