"""The delivery pipeline, and the interfaces that receivers and exporters are written against.

Names are imported when they are asked for: settings are made of this package's types, and whoever reads a
configuration does not load what delivers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.pipeline.batch import Batch, Signal
    from gateway.pipeline.delivery import Delivery
    from gateway.pipeline.errors import (
        DeliveryError,
        MalformedPayloadError,
        NoPipelineError,
        OverloadedError,
        PartlyRefusedError,
        RefusedError,
        TimedOutError,
        TooLargeError,
        TooLargeForDestinationError,
        UnavailableError,
    )
    from gateway.pipeline.instruments import Instruments
    from gateway.pipeline.interfaces import ACCEPTED, Consumer, Exporter, Outcome, Prepared, Receiver
    from gateway.pipeline.pipeline import Pipeline

__all__ = [
    "ACCEPTED",
    "Batch",
    "Consumer",
    "Delivery",
    "DeliveryError",
    "Exporter",
    "Instruments",
    "MalformedPayloadError",
    "NoPipelineError",
    "Outcome",
    "OverloadedError",
    "PartlyRefusedError",
    "Pipeline",
    "Prepared",
    "Receiver",
    "RefusedError",
    "Signal",
    "TimedOutError",
    "TooLargeError",
    "TooLargeForDestinationError",
    "UnavailableError",
]

_MODULES = {
    "batch": ("Batch", "Signal"),
    "delivery": ("Delivery",),
    "instruments": ("Instruments",),
    "interfaces": ("ACCEPTED", "Consumer", "Exporter", "Outcome", "Prepared", "Receiver"),
    "pipeline": ("Pipeline",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_MODULE_OF.get(name, 'errors')}"), name)
    globals()[name] = found  # from now on without this function
    return found
