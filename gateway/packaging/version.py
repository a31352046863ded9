"""The version that a build of a checkout has, by its tags. A source distribution has it written down.

It is run by the build and imports nothing but the standard library: each package that builds need would run with the
rights of whoever installs the hub. Run by hand, it prints the version. Where there is no git, as in the build of an
image, ``OBSHUB_BUILD_VERSION`` says it.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

UNKNOWN = "0.0.0"
"""The version of a copy that git knows nothing of."""

_DESCRIBED = re.compile(r"v(?P<release>\d+(?:\.\d+)*(?:(?:a|b|rc)\d+)?)-(?P<distance>\d+)-g(?P<commit>[0-9a-f]+)")


def version_of(checkout: Path) -> str:
    """Return the version of a checkout as PEP 440 has it.

    ``1.4.0`` is what was tagged ``v1.4.0``; ``1.4.0.post3+g1f0c2d9`` is three commits later. Without a tag it is
    ``0.0.0.post117+g1f0c2d9``, and without git, or within the checkout of something else, ``0.0.0``.
    """
    if _git(checkout, "rev-parse", "--show-prefix") != "":
        return UNKNOWN
    described = _git(checkout, "describe", "--tags", "--long", "--match", "v[0-9]*")
    if described is not None and (found := _DESCRIBED.fullmatch(described)):
        release, distance, commit = found.group("release", "distance", "commit")
    else:
        distance, commit = _git(checkout, "rev-list", "--count", "HEAD"), _git(checkout, "rev-parse", "--short", "HEAD")
        release = UNKNOWN
        if distance is None or commit is None:
            return UNKNOWN
    return release if distance == "0" else f"{release}.post{distance}+g{commit}"


def _git(checkout: Path, *arguments: str) -> str | None:
    """Return what git says about a checkout, or None where there is no git, or none that it would speak of."""
    # A hook of git's sets variables by which it would speak of the repository that the hook is of.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        said = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(checkout), *arguments],  # noqa: S607
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip() if said.returncode == 0 else None


__version__ = os.environ.get("OBSHUB_BUILD_VERSION") or version_of(Path(__file__).resolve().parents[2])

if __name__ == "__main__":
    print(__version__)
