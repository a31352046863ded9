"""``make``, with a Python that only notes what it is asked for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")

PYTHON = """\
#!/bin/sh
if [ "$2" = venv ]; then
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
    printf '#!/bin/sh\\necho "obs-hub $*"\\n' > "$3/bin/obs-hub" && chmod +x "$3/bin/obs-hub"
elif [ "$2" = pip ]; then
    exit "${PIP_ENDS_WITH:-0}"
fi
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    stub = tmp_path / "python-stub"
    stub.write_text(PYTHON)
    stub.chmod(0o755)
    return tmp_path


def make(checkout: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *words, "PYTHON=./python-stub"],
        cwd=checkout,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_up_says_what_it_does_and_how_long_it_took_and_passes_options_on(checkout: Path) -> None:
    ran = make(checkout, "up", "ARGS=--otlp-grpc 14317")
    assert ran.returncode == 0, ran.stderr
    begun, took, hub = ran.stdout.splitlines()
    assert begun == "Installing into .venv ..."
    assert took.strip().removesuffix(" s").isdecimal()
    assert hub == "obs-hub up --otlp-grpc 14317"
    assert make(checkout, "up").stdout == "obs-hub up\n", "a second time nothing is installed"


def test_an_installation_that_fails_is_no_installation(checkout: Path) -> None:
    failed = make(checkout, "up", PIP_ENDS_WITH="1")
    assert failed.returncode != 0
    assert "obs-hub up" not in failed.stdout
    assert not (checkout / ".venv/installed").exists()


def test_clean_says_what_stays_and_where_it_is_told_how_to_remove_that(checkout: Path) -> None:
    make(checkout, "up")
    cleaned = make(checkout, "clean", HOME="/home/someone", OBSHUB_DATA_DIR="/srv/hub")
    assert not (checkout / ".venv").exists()
    assert "stays: /srv/hub, and root's /var/lib/obs-hub" in cleaned.stdout
    assert "/home/someone/.local/state/obs-hub" in make(checkout, "clean", HOME="/home/someone").stdout
    heading = cleaned.stdout.rpartition(", ")[2].strip().rstrip(".")
    assert f"### {heading}\n" in (ROOT / "docs/configuration.md").read_text("utf-8")
