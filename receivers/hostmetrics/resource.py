"""Who the metrics are of: the host, and its operating system."""

from __future__ import annotations

import platform
import socket
from pathlib import Path

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.version import __version__ as sdk_version

from receivers.hostmetrics.conventions import SCHEMA_URL

SERVICE_NAME = "obs-hub-hostmetrics"

_MACHINE_ID = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))

# The conventions' names of architectures, by what uname says.
_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv6l": "arm32",
    "armv7l": "arm32",
    "i386": "x86",
    "i686": "x86",
    "ppc64le": "ppc64",
}


def resource() -> Resource:
    """Return the resource: ``host.*``, ``os.*``, ``service.name``, ``telemetry.sdk.*``.

    ``OTEL_RESOURCE_ATTRIBUTES`` and ``OTEL_SERVICE_NAME`` add to it and win. It is the same for every run on a machine;
    the SDK's own way adds a random ``service.instance.id``, which would make new series at every run of a timer.
    """
    attributes: dict[str, str | None] = {
        "service.name": SERVICE_NAME,
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": sdk_version,
        "host.name": socket.gethostname(),
        "host.id": _machine_id(),
        "host.arch": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        **_operating_system(),
    }
    found = {name: value for name, value in attributes.items() if value}
    return Resource(found, SCHEMA_URL).merge(OTELResourceDetector().detect())


def _machine_id() -> str | None:
    """Return the id that systemd or D-Bus gave this installation, or None."""
    for path in _MACHINE_ID:
        try:
            text = path.read_text("ascii").strip()
        except (OSError, ValueError):
            continue
        # An image that is started for the first time says "uninitialized".
        if len(text) == 32:
            return text
    return None


def _operating_system() -> dict[str, str | None]:
    system = platform.system()
    try:
        release = platform.freedesktop_os_release()
    except OSError:  # not Linux, or a minimal image
        release = {}
    return {
        "os.type": system.lower(),
        "os.name": release.get("NAME", system),
        "os.version": release.get("VERSION_ID", platform.release() if not release else None),
        "os.description": release.get("PRETTY_NAME", platform.platform()),
    }
