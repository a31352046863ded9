"""What the Dockerfile does, done without Docker: its steps in a folder, and the hub that comes of them.

The steps are those of the file, with folders of this test for those of the image. By default nothing is downloaded:
dependencies are those of the environment that the tests run in. With `OBSHUB_TEST_IMAGE_STEPS=whole` pip installs all.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.integration.cli.processes import PATIENCE, config_text, environment, free_port, until
from tests.support import shared
from tests.support.container import ROOT, stages

WHOLE = os.environ.get("OBSHUB_TEST_IMAGE_STEPS") == "whole"


class Image:
    """A folder in which the build stage's steps were run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arguments = {"VERSION": "1.2.3"}

    def here(self, text: str) -> str:
        """Put the folder's places for the image's into a text."""
        return re.sub(r"(?<![\w./-])/(src|wheels|opt/obs-hub)\b", rf"{self.folder}/\1", text)

    def build(self) -> None:
        """Run the steps of the build stage, in order."""
        source = self.folder / "src"
        source.mkdir()
        for instruction, text in stages()[0].instructions:
            if instruction == "COPY":
                *names, target = text.split()
                for name in names:
                    place = source / target / ("" if name.endswith("/") else name)
                    if (ROOT / name).is_dir():
                        shutil.copytree(ROOT / name, place, ignore=shutil.ignore_patterns("__pycache__"))
                    else:
                        shutil.copy(ROOT / name, source / target)
            elif instruction == "ARG":
                self.arguments.setdefault(*text.split("=", 1))
            elif instruction == "RUN":
                self._run(self.here(text), source)
            else:
                assert (instruction, text) == ("WORKDIR", "/src")

    def _run(self, command: str, source: Path) -> None:
        variables = {} if WHOLE else {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-ec", command],
            cwd=source,
            env=environment(PATH=path, **variables, **self.arguments),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"

    def borrow_dependencies(self) -> None:
        """Let the environment find the packages of the one that the tests run in, but not the project's checkout."""
        (site,) = (self.folder / "opt/obs-hub/lib").glob("python*/site-packages")
        (site / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")

    def command(self, *words: str) -> list[str]:
        """The entry point with arguments, as the image would run it."""
        (entry,) = stages()[1].words("ENTRYPOINT")
        return [str(self.folder / "opt/obs-hub/bin" / entry), *words]

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the image to its end."""
        return subprocess.run(
            self.command(*words),
            env=self.environment(**variables),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def environment(self, **variables: str) -> dict[str, str]:
        """The image's environment, with its data directory in the folder."""
        given = {name: self.here(value) for name, value in stages()[1].environment.items()}
        return environment(**{**given, "OBSHUB_DATA_DIR": str(self.folder / "data"), **variables})


def make(folder: Path) -> None:
    folder.mkdir()
    made = Image(folder)
    made.build()
    if not WHOLE:
        made.borrow_dependencies()


@pytest.fixture(scope="module")
def image() -> Image:
    return Image(shared.once("image", make))


def test_the_environment_holds_the_hub_and_no_installer(image: Image) -> None:
    (package,) = (image.folder / "opt/obs-hub/lib").glob("python*/site-packages/obs_hub/_packages/gateway")
    assert {"_assets", "_page", "_systemd"} <= {path.name for path in package.iterdir()}
    assert not (package.parents[2] / "pip").exists()
    version = image.run("--version")
    assert version.stdout == "obs-hub, version 1.2.3\n"


def test_the_gateway_starts_is_healthy_beside_jobs_and_emitters_and_stops(image: Image) -> None:
    """The embedded store, the image's command and its health check; other commands as containers beside it."""
    front, grpc = free_port(), free_port()
    service = {
        "extensions": ["tokens", "api"],
        "telemetry": {"metrics": {"enabled": False}, "traces": {"enabled": False}},
    }
    config = image.folder / "hub.yaml"
    config.write_text(
        config_text(grpc=grpc, http=free_port(), service=service)
        + f"extensions: {{tokens: {{}}, api: {{endpoint: '127.0.0.1:{front}', auth: {{authenticator: tokens}}}}}}\n"
    )
    _, final = stages()
    variables = image.environment(OBSHUB_CONFIG=str(config))
    (health,) = final.all("HEALTHCHECK")
    check = shlex.split(health.partition(" CMD ")[2].strip("[]").replace('",', '"'))
    check[-1] = check[-1].replace(":8085", f":{front}")
    check[0] = str(image.folder / "opt/obs-hub/bin" / check[0])

    def healthy() -> bool:
        return subprocess.run(check, env=variables, capture_output=True, check=False).returncode == 0

    assert not healthy()
    with (image.folder / "log").open("wb") as log:
        hub = subprocess.Popen(
            image.command(*final.words("CMD")), env=variables, cwd=image.folder, stderr=log, start_new_session=True
        )
    try:
        # Each look at its health is an interpreter: they begin when the log says that there is something to see.
        until(lambda: "ready: " in (image.folder / "log").read_text() or hub.poll() is not None)
        until(lambda: healthy() or hub.poll() is not None)
        assert hub.poll() is None, (image.folder / "log").read_text()
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{grpc}", "OBSHUB_CONFIG": str(config)}
        jobs = [["hostmetrics", "--once"], ["db", "backup"], ["token", "create", "nas", "--scope", "ingest"]]
        if shutil.which("journalctl") is not None:
            jobs.append(["journal", "--once"])
        for words in jobs:
            done = image.run(*words, **endpoint)
            assert done.returncode == 0, done.stderr
        counted = image.run(
            "query", "--csv", "SELECT count(*) > 0 FROM metrics WHERE name = 'system.uptime'", **endpoint
        )
        assert counted.stdout.splitlines()[1:] == ["True"], counted.stderr
        hub.terminate()
        assert hub.wait(PATIENCE) == 0, (image.folder / "log").read_text()
    finally:
        if hub.poll() is None:
            hub.kill()
            hub.wait()
