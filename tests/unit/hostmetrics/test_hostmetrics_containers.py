"""Containers, as an engine tells of them over its socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from opentelemetry.sdk.resources import Resource

from receivers.hostmetrics import engine as engine_module
from receivers.hostmetrics.collector import Collector
from receivers.hostmetrics.config import ContainerScraper
from receivers.hostmetrics.engine import EngineError, find_socket
from receivers.hostmetrics.scrapers.container import Containers
from receivers.hostmetrics.sensor import Failed, Observation, Sensor
from tests.support.engines import CONTAINER_ID, FakeEngine, details, listed, running, stats
from tests.support.logged import Logged

SECOND = 10**9


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    with running(FakeEngine(tmp_path / "docker.sock")) as engine:
        yield engine


def containers(engine: FakeEngine, **settings: Any) -> Containers:
    return Containers(ContainerScraper(socket=engine.path, **settings))


def observations(under_test: Containers) -> list[Observation]:
    found = list(under_test.read())
    assert not [each for each in found if isinstance(each, Failed)]
    return [each for each in found if isinstance(each, Observation)]


def values(found: list[Observation]) -> dict[tuple[str, ...], int | float]:
    return {(each.instrument.name, *map(str, each.attributes.values())): each.value for each in found}


def names(found: list[Observation]) -> set[str]:
    return {str(each.entity.attributes["container.name"]) for each in found if each.entity is not None}


def test_a_container_of_docker(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.has(listed(), details(), stats())
    under_test = containers(engine)
    found = observations(under_test)
    told = values(found)
    assert told.pop(("container.uptime",)) > 0
    assert told == {
        ("container.cpu.time", "user"): 2.0,
        ("container.cpu.time", "system"): 1.0,
        ("container.memory.usage",): 50_000_000,
        ("container.memory.working_set",): 30_000_000,
        ("container.memory.available",): 70_000_000,
        ("container.network.io", "eth0", "receive"): 1296,
        ("container.network.io", "eth0", "transmit"): 648,
        ("container.disk.io", "999:0", "read"): 4096,
        ("container.disk.io", "999:0", "write"): 8192,
        ("container.restarts",): 3,
        ("container.health.status", "starting"): 0,
        ("container.health.status", "healthy"): 1,
        ("container.health.status", "unhealthy"): 0,
    }
    (entity,) = {each.entity for each in found}
    assert entity is not None
    assert entity.attributes == {
        "container.id": CONTAINER_ID,
        "container.name": "web",
        "container.image.name": "registry.example.com:5000/shop/web",
        "container.image.tags": ("1.2",),
        "container.runtime.name": "docker",
    }
    assert entity.started // SECOND == 1_764_007_200
    (restarts,) = [each for each in found if each.instrument.name == "container.restarts"]
    assert restarts.started // SECOND == 1_764_000_000, "which are counted since it was made"

    usage = {"usage_in_usermode": 5 * SECOND, "usage_in_kernelmode": SECOND}
    engine.answers[f"/containers/{CONTAINER_ID}/stats"] = stats(cpu_stats={"cpu_usage": usage})
    again = observations(under_test)
    assert {each.entity for each in again} == {entity}
    assert values(again)["container.cpu.usage", "user"] > 0
    assert values(again)["container.cpu.usage", "system"] == 0
    assert engine.connections == 1, "which stays open between collections"
    assert not [path for path in engine.asked if "stats" in path and "one-shot=true" not in path]


def test_a_container_of_podman_tells_less(engine: FakeEngine) -> None:
    engine.server = "Libpod/5.2.2 (linux)"
    its_details = details(Created="2025-11-24T17:00:00+01:00", State={"StartedAt": "2025-11-24T19:00:00.5+01:00"})
    its_stats = stats(
        blkio_stats={"io_service_bytes_recursive": None},
        networks=None,
        memory_stats={"usage": 7, "limit": psutil.virtual_memory().total},
    )
    engine.has(listed(Names=None, Image="docker.io/library/redis@sha256:" + "ab" * 32), its_details, its_stats)
    found = observations(containers(engine))
    assert {each.instrument.name for each in found} == {
        "container.cpu.time",
        "container.memory.usage",
        "container.memory.working_set",
        "container.restarts",
        "container.uptime",
    }
    assert found[0].entity is not None
    assert found[0].entity.attributes["container.runtime.name"] == "podman"
    assert found[0].entity.attributes["container.name"] == CONTAINER_ID[:12]
    assert found[0].entity.attributes["container.image.name"] == "docker.io/library/redis"
    assert "container.image.tags" not in found[0].entity.attributes
    assert found[0].entity.started // SECOND == 1_764_007_200


def test_control_groups_of_version_1_have_sums_and_names_of_their_own(engine: FakeEngine) -> None:
    blkio = [{"major": 9, "minor": 9, "op": op, "value": 5} for op in ("Read", "Write", "Sync", "Async", "Total")]
    its_stats = stats(
        blkio_stats={"io_service_bytes_recursive": blkio},
        memory_stats={"usage": 50, "stats": {"total_inactive_file": 20}, "limit": 100},
    )
    engine.has(listed(), details(), its_stats)
    told = values(observations(containers(engine)))
    assert [key[2] for key in told if key[0] == "container.disk.io"] == ["read", "write"]
    assert told["container.memory.working_set",] == 30


def test_a_container_that_is_started_anew_counts_anew(engine: FakeEngine) -> None:
    engine.has(listed(), details(), stats())
    under_test = containers(engine)
    before = observations(under_test)[0].entity
    engine.answers[f"/containers/{CONTAINER_ID}/json"] = details(State={"StartedAt": "2025-11-25T18:00:00Z"})
    found = observations(under_test)
    assert before is not None
    assert found[0].entity is not None
    assert found[0].entity.started == before.started // SECOND * SECOND + 86_400 * SECOND
    assert "container.cpu.usage" not in {each.instrument.name for each in found}


def test_a_container_that_ends_meanwhile_or_cannot_be_read_costs_no_other(engine: FakeEngine) -> None:
    engine.has(listed("web"), details(), stats())
    engine.has(listed("gone", Id="a" * 64), 404, 404)
    engine.has(listed("odd", Id="b" * 64), details(), {"cpu_stats": "nonsense"})
    engine.has(listed("broken", Id="c" * 64), details(), 500)
    under_test = containers(engine)
    found = list(under_test.read())
    assert names([each for each in found if isinstance(each, Observation)]) == {"web"}
    assert [each.sensor for each in found if isinstance(each, Failed)] == ["container odd", "container broken"]
    engine.answers["/containers/json"] = []
    assert list(under_test.read()) == []


def test_containers_are_selected_and_bounded(engine: FakeEngine) -> None:
    for number in range(6):
        engine.has(listed(f"web-{number}", Id=f"{number}" * 64, Created=100 - number), details(), stats())
    assert names(observations(containers(engine, top=2))) == {"web-5", "web-4"}, "the oldest first"
    assert names(observations(containers(engine, exclude_names=("web-[0-4]",)))) == {"web-5"}


def test_an_engine_that_closes_connections_or_was_started_anew_is_asked_again(tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path / "docker.sock")
    engine.has(listed(), details(), stats())
    under_test = containers(engine)
    engine.closes = True
    with running(engine):
        assert names(observations(under_test)) == {"web"}
        assert engine.connections == 3
    with pytest.raises(OSError, match="No such file"):
        list(under_test.read())
    with running(engine):
        assert names(observations(under_test)) == {"web"}


@pytest.mark.parametrize("answer", [b"<html>", 503, {"message": "no list"}])
def test_what_is_no_engine_is_told_once_and_costs_no_other_sensor(
    engine: FakeEngine, answer: Any, logged: Logged
) -> None:
    engine.answers["/containers/json"] = answer
    collector = Collector([Sensor("containers", containers(engine).read)], Resource({}))
    collector.collect()
    collector.collect()
    assert [entry["sensor"] for entry in logged.of("a sensor cannot be read")] == ["containers"]


def test_an_answer_is_bounded(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_MOST", 1000)
    engine.answers["/containers/json"] = b" " * 1001
    with pytest.raises(EngineError, match="more than 1000 bytes"):
        list(containers(engine).read())


def test_an_engine_that_does_not_answer_holds_up_nobody_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "TIMEOUT", 0.01)
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        with pytest.raises(TimeoutError):
            list(Containers(ContainerScraper(socket=path)).read())


def test_without_an_engine_there_are_no_containers() -> None:
    assert list(Containers(ContainerScraper()).read()) == []


def test_the_socket_is_found_where_engines_put_it(tmp_path: Path) -> None:
    podman = tmp_path / "podman" / "podman.sock"
    podman.parent.mkdir()
    podman.touch()
    docker = tmp_path / "docker.sock"
    environ = {"XDG_RUNTIME_DIR": str(tmp_path), "DOCKER_HOST": f"unix://{docker}"}
    assert find_socket(environ) != docker, "which is not there"
    docker.touch()
    assert find_socket(environ) == docker
    assert find_socket({"DOCKER_HOST": "tcp://127.0.0.1:2375"}) != Path("tcp://127.0.0.1:2375")


def test_each_container_is_a_resource_of_its_own_with_its_own_start(engine: FakeEngine) -> None:
    engine.has(listed(), details(), stats())
    machine = Resource({"host.name": "nas"})
    data = Collector([Sensor("containers", containers(engine).read)], machine).collect()
    of_machine, of_container = data.resource_metrics
    assert of_machine.resource is machine
    assert of_container.resource.attributes["host.name"] == "nas"
    assert of_container.resource.attributes["container.name"] == "web"
    (scope_metrics,) = of_container.scope_metrics
    assert scope_metrics.scope.version
    starts = {
        metric.name: point.start_time_unix_nano // SECOND
        for metric in scope_metrics.metrics
        for point in metric.data.data_points
    }
    assert starts["container.cpu.time"] == starts["container.network.io"] == 1_764_007_200
    assert starts["container.restarts"] == 1_764_000_000
    assert starts["container.uptime"] == 0, "a gauge has no start"
