"""The import name of the Observability Hub, and the way into its program.

Its code lies in ``gateway``, ``receivers`` and ``exporters``, names that other projects have as well. Installed, these
are folders within this package, where nobody finds them by accident: ``import gateway`` means the hub's in processes of
the hub, which begin with `main`, and in those that import what plugins are written against, `obs_hub.component`. All
others have what they had before the hub was installed, so importing this package alone changes nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["FOLDER", "main", "open_folder"]

_PACKAGES = ("gateway", "receivers", "exporters")
_INSTALLED = Path(__file__).parent / "_packages"

FOLDER = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[3]
"""Where the hub's packages are: in an installation, or in a checkout."""


def main() -> None:
    """Run ``obs-hub``."""
    open_folder()
    from gateway.cli import main as command

    command()


def open_folder() -> None:
    """Let ``import gateway`` mean the hub's from now on in this process, and in those that `multiprocessing` starts.

    Raises `ImportError` where this process has imported another package of the same name already.
    """
    for name in _PACKAGES:
        imported = sys.modules.get(name)
        if imported is None:
            continue
        places = list(getattr(imported, "__path__", [])) or [str(getattr(imported, "__file__", None))]
        if [Path(place).resolve() for place in places] != [(FOLDER / name).resolve()]:
            raise ImportError(
                f"this process has imported {name!r} from {', '.join(places)}, and the Observability Hub has a package "
                "of that name: use the hub in a process without it"
            )
    if sys.path[:1] != [str(FOLDER)]:
        sys.path.insert(0, str(FOLDER))
