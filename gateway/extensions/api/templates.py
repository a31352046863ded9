"""The templates of the pages, and where they and their assets are."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import gateway
from gateway import __version__

_INSTALLED = Path(gateway.__file__).parent / "_page"
FOLDER = _INSTALLED if _INSTALLED.is_dir() else Path(gateway.__file__).parents[1] / "page"
"""Where templates and assets are: in the installed package, or in a checkout."""


@cache
def environment() -> Environment:
    """Return the templates."""
    return Environment(
        loader=FileSystemLoader(FOLDER / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def rendered(template: str, **values: object) -> str:
    """Return a page, made of a template and what it says."""
    return environment().get_template(template).render(version=__version__, **{"links": {}, **values})
