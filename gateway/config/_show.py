"""The effective configuration as YAML, secrets masked."""

from __future__ import annotations

import re
from typing import Any

import yaml
from pydantic import SecretBytes, SecretStr

from gateway.base.settings import Settings
from gateway.config._load import Config
from gateway.config._validation import MASK
from gateway.config.errors import Place

_SECRET_KEY = re.compile(r"(?:.*[-_])?(?:authorization|password|passwd|secret|token|api[-_]?key|cookie)", re.IGNORECASE)
"""Keys whose text is masked even where a component does not call it a secret, for instance in a mapping of headers."""

_URL_PASSWORD = re.compile(r"(?P<before>[A-Za-z][\w+.-]*://[^\s/:@?#]*:|https?://)(?!\*+@)\S*(?=@)")
"""A user without a password is one in a URL of the web only: there it is a token."""
_DSN_PASSWORD = re.compile(r"(?P<before>\b(?:ssl)?password\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s&'\"]+)", re.IGNORECASE)


def show(config: Config) -> str:
    """Write the configuration as it takes effect, defaults filled in.

    Secret settings, values from a secret source, and passwords inside connection strings and URLs are masked.
    """
    effective = {
        "receivers": {name: _dump(settings) for name, settings in config.receivers.items()},
        "processors": {name: _dump(settings) for name, settings in config.processors.items()},
        "exporters": {name: _dump(settings) for name, settings in config.exporters.items()},
        "extensions": {name: _dump(settings) for name, settings in config.extensions.items()},
        "service": _dump(config.service),
    }
    if not config.processors:
        del effective["processors"]
    return yaml.safe_dump(_masked(effective, (), config), sort_keys=False, allow_unicode=True)


def _dump(settings: Settings) -> dict[str, Any]:
    written: dict[str, Any] = settings.model_dump(mode="json", by_alias=True)
    _mask_secrets(settings.model_dump(by_alias=True), written)
    return written


def _mask_secrets(values: Any, written: Any) -> None:
    """Put the mask where ``values`` has a secret. ``written`` is the same tree, in the types of YAML."""
    if not isinstance(values, dict | list | tuple):
        return
    for step, value in values.items() if isinstance(values, dict) else enumerate(values):
        if isinstance(value, SecretStr | SecretBytes):
            written[step] = MASK
        else:
            _mask_secrets(value, written[step])


def _masked(value: Any, place: Place, config: Config) -> Any:
    if place in config.secret_places:
        return MASK
    if isinstance(value, dict):
        return {key: _masked(inner, (*place, key), config) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner, (*place, index), config) for index, inner in enumerate(value)]
    if not isinstance(value, str):
        return value
    if place and isinstance(place[-1], str) and _SECRET_KEY.fullmatch(place[-1]):
        return MASK
    value = _URL_PASSWORD.sub(rf"\g<before>{MASK}", value)
    return _DSN_PASSWORD.sub(rf"\g<before>{MASK}", value)
