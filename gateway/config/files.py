"""Other files that people write for the hub, read as strictly as its configuration and with errors as good."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from gateway.base.settings import Settings
from gateway.config._document import read
from gateway.config._validation import validate
from gateway.config.errors import ConfigError, Place, Problem

AnySettings = TypeVar("AnySettings", bound=Settings)


def read_file(path: Path, model: type[AnySettings]) -> AnySettings:
    """Read a YAML file whose root is what a model describes. In it nothing is substituted.

    Raises `ConfigError`, whose problems name the file, the line, what was found and what was expected.
    """
    document = read(path, None, sections=list(model.model_fields))
    settings = validate(model, document, ())
    if settings is None or document.problems:
        raise ConfigError(document.problems)
    return settings


def problem_of(path: Path, place: Place, message: str) -> Problem:
    """Return a problem of a file that `read_file` has read, with the line of a place."""
    return read(path, None).problem(place, message)
