"""Settings of a function as a processor."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.base.settings import Duration
from gateway.component.declaration import ProcessorSettings


def _reference(text: str) -> str:
    module, _, function = text.partition(":")
    if not function.isidentifier() or not all(map(str.isidentifier, module.split("."))):
        raise ValueError("expected module:function, such as my_filters:without_debug")
    return text


class PythonConfig(ProcessorSettings):
    """Gives each record to a function of yours, which may change it or leave it out."""

    function: Annotated[str, AfterValidator(_reference)]
    """The function, written ``module:function``. It is given one record, and returns False to leave it out."""
    path: Path | None = None
    """A directory to look for the module in, besides where Python looks."""
    on_error: Literal["reject", "keep", "drop"] = "reject"
    """What becomes of a record on which the function fails. ``reject``: it is left out and its sender told, as of a
    record that breaks a rule. ``keep``: it goes on as it came. ``drop``: it is left out and counted."""
    timeout: Duration = Field(default=timedelta(seconds=5), ge=timedelta(milliseconds=10), le=timedelta(minutes=1))
    """How long all records of a batch may take. Then the function is broken off; it has failed on the record that it
    was at, and on those it did not come to."""
