"""The configuration: one YAML file in the OpenTelemetry Collector's shape.

`load` reads and checks it, `show` writes what takes effect, `schema` describes it to an editor.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from gateway.config._load import DEFAULT_YAML, NO_FRONT, STARTER_YAML, Config, load, resolve_path
from gateway.config._overrides import NO_OVERRIDES, Overrides, option_for
from gateway.config.errors import ConfigError, Place, Problem
from gateway.config.service import DeliverySettings, PipelineSettings, ServiceSettings, TelemetrySettings
from gateway.config.substitution import SCHEMES, NotNowError, Scheme

if TYPE_CHECKING:
    from gateway.config._schema import schema
    from gateway.config._show import show

__all__ = [
    "DEFAULT_YAML",
    "NO_FRONT",
    "NO_OVERRIDES",
    "SCHEMES",
    "STARTER_YAML",
    "Config",
    "ConfigError",
    "DeliverySettings",
    "NotNowError",
    "Overrides",
    "PipelineSettings",
    "Place",
    "Problem",
    "Scheme",
    "ServiceSettings",
    "TelemetrySettings",
    "load",
    "option_for",
    "resolve_path",
    "schema",
    "show",
]


def __getattr__(name: str) -> object:
    if name not in ("schema", "show"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}._{name}"), name)  # loaded by those who ask for them: they need much
