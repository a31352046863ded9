"""Containers of Docker or Podman.

Source: the Docker Engine API, ``GET /containers/json``, ``/containers/{id}/json`` and ``/containers/{id}/stats``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from receivers.hostmetrics.config import ContainerScraper, selected
from receivers.hostmetrics.conventions import (
    CONTAINER_CPU_TIME,
    CONTAINER_CPU_USAGE,
    CONTAINER_DISK_IO,
    CONTAINER_HEALTH,
    CONTAINER_MEMORY_AVAILABLE,
    CONTAINER_MEMORY_USAGE,
    CONTAINER_MEMORY_WORKING_SET,
    CONTAINER_NETWORK_IO,
    CONTAINER_RESTARTS,
    CONTAINER_UPTIME,
    Attribute,
)
from receivers.hostmetrics.engine import Engine, EngineError, GoneError, find_socket
from receivers.hostmetrics.sensor import Entity, Failed, Observation, Reading

_PATIENCE = 5.0
"""Seconds that all containers may take together. Other sensors wait meanwhile."""

_NANOSECONDS = 10**9

_HEALTH = ("starting", "healthy", "unhealthy")


@dataclass(slots=True)
class _Seen:
    """What is known of a container since it was started."""

    entity: Entity
    created: int
    cpu: Mapping[str, float] = field(default_factory=dict)
    read_at: float = 0.0


class Containers:
    """The containers of one engine. Each is a resource of its own."""

    def __init__(self, settings: ContainerScraper) -> None:
        self._settings = settings
        self._engine: Engine | None = None
        self._seen: dict[str, _Seen] = {}

    def read(self) -> Reading:
        """Yield what is to be told of the containers that run. A container that cannot be read costs no other."""
        path = self._settings.socket or find_socket()
        if path is None:
            return
        if self._engine is None or self._engine.path != path:
            self._engine = Engine(path)
        engine = self._engine
        until = time.monotonic() + _PATIENCE
        running = list(self._meant(engine.get("/containers/json")))
        ids = {each["Id"] for each in running}
        self._seen = {key: seen for key, seen in self._seen.items() if key in ids}
        for each in running:
            name = _name(each)
            if time.monotonic() > until:
                yield Failed("containers", TimeoutError(f"{engine.path} takes more than {_PATIENCE:g} s for all"))
                return
            try:
                details = engine.get(f"/containers/{each['Id']}/json")
                stats = engine.get(f"/containers/{each['Id']}/stats?stream=false&one-shot=true")
                yield from self._observations(each, details, stats)
            except GoneError:
                continue  # it has ended meanwhile
            except (EngineError, LookupError, TypeError, ValueError) as error:
                yield Failed(f"container {name}", error)

    def _meant(self, listed: Any) -> Iterable[Any]:
        if not isinstance(listed, list):
            raise EngineError("the list of containers is no list: this is not Docker or Podman")
        names = self._settings.include_names, self._settings.exclude_names
        meant = [each for each in listed if selected(_name(each), *names)]
        return sorted(meant, key=lambda each: each.get("Created", 0))[: self._settings.top]

    def _observations(self, listed: Any, details: Any, stats: Any) -> Iterator[Observation]:
        seen = self._seen_of(listed, details)
        entity, now = seen.entity, time.monotonic()
        cpu = dict(_cpu_seconds(stats))
        for mode, seconds in cpu.items():
            attributes = {Attribute.CPU_MODE: mode}
            yield Observation(CONTAINER_CPU_TIME, seconds, attributes, entity)
            if mode in seen.cpu and now > seen.read_at:
                used = max(0.0, seconds - seen.cpu[mode]) / (now - seen.read_at)
                yield Observation(CONTAINER_CPU_USAGE, used, attributes, entity)
        seen.cpu, seen.read_at = cpu, now
        yield from _memory(stats.get("memory_stats") or {}, entity)
        yield from _network(stats.get("networks") or {}, entity)
        yield from _disk(stats.get("blkio_stats") or {}, entity)
        yield Observation(CONTAINER_UPTIME, max(0.0, time.time() - entity.started / _NANOSECONDS), entity=entity)
        restarts = details.get("RestartCount")
        if restarts is not None:
            yield Observation(CONTAINER_RESTARTS, int(restarts), entity=entity, started=seen.created)
        health = ((details.get("State") or {}).get("Health") or {}).get("Status")
        if health in _HEALTH:  # "none" or nothing at all: there is no check
            for state in _HEALTH:
                attributes = {Attribute.CONTAINER_HEALTH_STATE: state}
                yield Observation(CONTAINER_HEALTH, int(state == health), attributes, entity)

    def _seen_of(self, listed: Any, details: Any) -> _Seen:
        started = _nanoseconds(details["State"]["StartedAt"])
        seen = self._seen.get(listed["Id"])
        if seen is None or seen.entity.started != started:
            assert self._engine is not None
            image, tag = _image(listed.get("Image") or "")
            attributes: dict[str, Any] = {
                Attribute.CONTAINER_ID: listed["Id"],
                Attribute.CONTAINER_NAME: _name(listed),
                Attribute.CONTAINER_IMAGE_NAME: image,
                Attribute.CONTAINER_RUNTIME_NAME: self._engine.runtime,
            }
            if tag:
                attributes[Attribute.CONTAINER_IMAGE_TAGS] = (tag,)
            created = _nanoseconds(details["Created"]) if details.get("Created") else started
            seen = self._seen[listed["Id"]] = _Seen(Entity(attributes, started), created)
        return seen


def _name(listed: Any) -> str:
    names = listed.get("Names") or [listed["Id"][:12]]
    return str(names[0]).removeprefix("/")


def _image(reference: str) -> tuple[str, str]:
    """Return the name and the tag of an image: ``registry:5000/app``, ``1.2`` of ``registry:5000/app:1.2@sha256:…``."""
    name, _, _ = reference.partition("@")
    folder, slash, last = name.rpartition("/")
    base, _, tag = last.partition(":")
    return folder + slash + base, tag


def _nanoseconds(text: str) -> int:
    """Read a time as the engine writes it; digits beyond microseconds are dropped. What never was is the year 1."""
    return max(0, round(datetime.fromisoformat(text).timestamp() * 10**6) * 1000)


def _cpu_seconds(stats: Any) -> Iterator[tuple[str, float]]:
    usage = stats["cpu_stats"]["cpu_usage"]
    for mode, name in (("user", "usage_in_usermode"), ("system", "usage_in_kernelmode")):
        yield mode, usage.get(name, 0) / _NANOSECONDS


def _memory(stats: Any, entity: Entity) -> Iterator[Observation]:
    used = stats.get("usage")
    if used is None:  # the engine could not tell
        return
    parts = stats.get("stats") or {}
    # What the kernel can take back at once; the name is that of version 2 of control groups, or of version 1.
    inactive = parts.get("inactive_file", parts.get("total_inactive_file", 0))
    working_set = max(0, used - inactive)
    yield Observation(CONTAINER_MEMORY_USAGE, used, entity=entity)
    yield Observation(CONTAINER_MEMORY_WORKING_SET, working_set, entity=entity)
    limit = stats.get("limit", 0)
    if 0 < limit < psutil.virtual_memory().total:  # without a limit of its own, the engine says the machine's
        yield Observation(CONTAINER_MEMORY_AVAILABLE, max(0, limit - working_set), entity=entity)


def _network(interfaces: Any, entity: Entity) -> Iterator[Observation]:
    for name, counts in interfaces.items():
        for direction, field_name in (("receive", "rx_bytes"), ("transmit", "tx_bytes")):
            attributes = {Attribute.NETWORK_INTERFACE_NAME: name, Attribute.NETWORK_IO_DIRECTION: direction}
            yield Observation(CONTAINER_NETWORK_IO, counts.get(field_name, 0), attributes, entity)


def _disk(stats: Any, entity: Entity) -> Iterator[Observation]:
    found: dict[tuple[str, str], int] = {}
    for each in stats.get("io_service_bytes_recursive") or ():
        direction = each["op"].lower()
        if direction in ("read", "write"):  # version 1 has sums of these besides
            key = _device(each["major"], each["minor"]), direction
            found[key] = found.get(key, 0) + each["value"]
    for (device, direction), count in found.items():
        attributes = {Attribute.SYSTEM_DEVICE: device, Attribute.DISK_IO_DIRECTION: direction}
        yield Observation(CONTAINER_DISK_IO, count, attributes, entity)


def _device(major: int, minor: int) -> str:
    """Return the name of a block device; its numbers where there is no sysfs."""
    try:
        return Path(f"/sys/dev/block/{major}:{minor}").readlink().name
    except OSError:
        return f"{major}:{minor}"
