"""Temperatures and fans. Machines without sensors, virtual ones above all, simply yield nothing."""

from __future__ import annotations

from collections.abc import Iterator

import psutil

from receivers.hostmetrics.conventions import FAN_SPEED, TEMPERATURE, TEMPERATURE_LIMIT, Attribute
from receivers.hostmetrics.sensor import Observation

# Chips without a limit say 0, -273 or 65261 degrees.
_PLAUSIBLE_LIMIT = range(1, 1000)


def temperatures() -> Iterator[Observation]:
    """Yield temperatures in degrees Celsius, and their limits where the chip has any."""
    for chip, readings in psutil.sensors_temperatures().items():
        for index, reading in enumerate(readings):
            attributes = _component("temperature", chip, index, reading.label)
            yield Observation(TEMPERATURE, reading.current, attributes)
            limits = {"high.critical": reading.critical}
            # psutil fills in the one for the other where a chip has a single limit.
            if reading.high != reading.critical:
                limits["high.degraded"] = reading.high
            for kind, limit in limits.items():
                if limit is not None and int(limit) in _PLAUSIBLE_LIMIT:
                    yield Observation(TEMPERATURE_LIMIT, limit, attributes | {Attribute.HW_LIMIT_TYPE: kind})


def fans() -> Iterator[Observation]:
    """Yield the speed of fans in revolutions per minute; 0 is one that stands still."""
    for chip, readings in psutil.sensors_fans().items():
        for index, reading in enumerate(readings):
            yield Observation(FAN_SPEED, reading.current, _component("fan", chip, index, reading.label))


def _component(kind: str, chip: str, index: int, label: str) -> dict[str, str | int]:
    """Return the attributes of one sensor.

    Labels are not unique, two disks of the same make both have a ``Composite``, so the id has its place in the chip's
    list instead.
    """
    attributes: dict[str, str | int] = {
        Attribute.HW_TYPE: kind,
        Attribute.HW_ID: f"{kind}/{chip}/{index}",
        Attribute.HW_NAME: f"{chip} {label}".rstrip(),
    }
    return attributes | {Attribute.HW_SENSOR_LOCATION: label} if label else attributes
