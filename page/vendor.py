"""Brings the scripts of others that the pages use into ``page/static/vendor``, with their licences.

Run it after changing a version here, and commit what it writes: ``python page/vendor.py``. It needs npm. Whoever runs
the hub needs none of that.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "static" / "vendor"


@dataclass(frozen=True)
class Package:
    """A package of npm. ``integrity`` is what ``npm view NAME@VERSION dist.integrity`` says."""

    name: str
    version: str
    integrity: str
    files: tuple[str, ...]


PACKAGES = (
    Package(
        "htmx.org",
        "2.0.11",
        "sha512-Thx/WtpeOQqSrqBCw/A1cwGJGg4UrVa3+sW0GmrM3p4gJgO89ecH4qtbnyzDDWFvBTqjnIMCgELTNt636dtamA==",
        ("dist/htmx.min.js",),
    ),
    Package(
        "idiomorph",
        "0.7.4",
        "sha512-uCdSpLo3uMfqOmrwXTpR1k/sq4sSmKC7l4o/LdJOEU+MMMq+wkevRqOQYn3lP7vfz9Mv+USBEqPvi0XhdL9ENw==",
        ("dist/idiomorph.min.js",),
    ),
    Package(
        "uplot",
        "1.6.32",
        "sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
        ("dist/uPlot.iife.min.js", "dist/uPlot.min.css"),
    ),
)


def bring(package: Package, folder: Path) -> None:
    """Write the files of a package, and its licence as ``NAME.LICENSE``. Raises `ValueError` for a wrong digest."""
    with tempfile.TemporaryDirectory() as scratch:
        named = f"{package.name}@{package.version}"
        # By the name on PATH, of packages that stand above.
        subprocess.run(["npm", "pack", "--silent", "--pack-destination", scratch, named], check=True)  # noqa: S603, S607
        (archive,) = Path(scratch).iterdir()
        digest = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != package.integrity:
            raise ValueError(f"{named} is {digest}; expected {package.integrity}")
        with tarfile.open(archive) as packed:
            for name in (*package.files, "LICENSE"):
                member = packed.extractfile(f"package/{name}")
                assert member is not None
                target = f"{package.name}.LICENSE" if name == "LICENSE" else Path(name).name
                (folder / target).write_bytes(member.read())


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for each in PACKAGES:
        bring(each, FOLDER)
    versions = "".join(f"{each.name} {each.version}\n" for each in PACKAGES)
    (FOLDER / "VERSIONS").write_text(versions, encoding="utf-8")
