"""The templates of the pages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gateway import __version__
from gateway.extensions.api.assets import FOLDER as FOLDER
from gateway.extensions.api.assets import asset_url


@cache
def environment() -> Environment:
    """Return the templates. Each knows ``asset``, which gives the URL of one of the files under ``page/static``."""
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(asset=asset_url, version=__version__, links={}, views=(), current=None, session=None)
    return made


def rendered(template: str, **values: object) -> str:
    """Return a page, made of a template and what it says."""
    return environment().get_template(template).render(**values)


def block(template: str, name: str, values: Mapping[str, object]) -> str:
    """Return one block of a page; the block ``live`` where it has none of that name."""
    found = environment().get_template(template)
    render = found.blocks.get(name) or found.blocks["live"]
    return "".join(render(found.new_context(dict(values))))
