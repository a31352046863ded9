"""The function that a user names to change events beyond the mapping.

``def transform(event: Event, document: Mapping[str, Any]) -> Event | None``: it may change the event it is given or
make another, and returns the one to send; None sends nothing, and the document is done with. What it raises is the
reason why the document fails. It is called in a thread, one document after the other. After a crash it is called again
for documents that were not marked yet.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, cast

from receivers.mongodb.event import Event

Transform = Callable[[Event, Mapping[str, Any]], Event | None]


def load(path: str) -> Transform:
    """Import the function. Raises `ValueError` saying what is missing."""
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ValueError(
            f"transform: {path}: the module {module_name} cannot be imported ({type(error).__name__}: {error}); "
            "install it beside the hub, or add its folder to PYTHONPATH"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"transform: {path}: the module {module_name} has no function {name}")
    return cast("Transform", function)
