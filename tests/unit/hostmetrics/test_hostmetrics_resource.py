"""The resource says which host the metrics are of, the same at every run."""

import platform
import socket
from pathlib import Path

import pytest
from opentelemetry.semconv._incubating.attributes.host_attributes import HostArchValues
from opentelemetry.semconv._incubating.attributes.os_attributes import OsTypeValues

from receivers.hostmetrics import resource as module
from receivers.hostmetrics.resource import resource

MACHINE_ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def machine_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "machine-id"
    path.write_text(f"{MACHINE_ID}\n")
    monkeypatch.setattr(module, "_MACHINE_ID", (tmp_path / "absent", path))
    return path


def test_host_and_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    release = {"NAME": "Debian GNU/Linux", "VERSION_ID": "12", "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)"}
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    attributes = dict(resource().attributes)
    assert attributes.pop("telemetry.sdk.version")
    assert attributes == {
        "service.name": "obs-hub-hostmetrics",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "host.name": socket.gethostname(),
        "host.id": MACHINE_ID,
        "host.arch": "arm64",
        "os.type": platform.system().lower(),
        "os.name": "Debian GNU/Linux",
        "os.version": "12",
        "os.description": "Debian GNU/Linux 12 (bookworm)",
    }


def test_it_is_the_same_at_every_run() -> None:
    assert resource() == resource()
    assert "service.instance.id" not in resource().attributes


def test_values_are_those_of_the_conventions() -> None:
    assert set(module._ARCHITECTURES.values()) <= {each.value for each in HostArchValues}
    assert resource().attributes["os.type"] in {each.value for each in OsTypeValues}


@pytest.mark.parametrize("text", ["", "uninitialized\n"])
def test_a_machine_without_an_id_has_none(machine_id: Path, text: str) -> None:
    machine_id.write_text(text)
    assert "host.id" not in resource().attributes


def test_a_system_that_does_not_say_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> dict[str, str]:
        raise FileNotFoundError("/etc/os-release")

    monkeypatch.setattr(platform, "freedesktop_os_release", absent)
    attributes = resource().attributes
    assert (attributes["os.name"], attributes["os.version"]) == (platform.system(), platform.release())


def test_a_rolling_release_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"NAME": "Arch Linux", "ID": "arch"})
    assert "os.version" not in resource().attributes


def test_environment_variables_add_and_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=nas,deployment.environment.name=home,service.name=x")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "cellar")
    attributes = resource().attributes
    assert attributes["host.name"] == "nas"
    assert attributes["deployment.environment.name"] == "home"
    assert attributes["service.name"] == "cellar"
