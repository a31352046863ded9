"""What components are written against: the batch, the interfaces of components, and why a batch is refused.

Names are imported when they are asked for: whoever reads a configuration does not load what delivers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.component.batch import ACCEPTED, Batch, Outcome, Signal
    from gateway.component.errors import (
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
    from gateway.component.interfaces import Consumer, Exporter, Prepared, Processed, Processor, Receiver

__all__ = [
    "ACCEPTED",
    "Batch",
    "Consumer",
    "DeliveryError",
    "Exporter",
    "MalformedPayloadError",
    "NoPipelineError",
    "Outcome",
    "OverloadedError",
    "PartlyRefusedError",
    "Prepared",
    "Processed",
    "Processor",
    "Receiver",
    "RefusedError",
    "Signal",
    "TimedOutError",
    "TooLargeError",
    "TooLargeForDestinationError",
    "UnavailableError",
]

_MODULES = {
    "batch": ("ACCEPTED", "Batch", "Outcome", "Signal"),
    "interfaces": ("Consumer", "Exporter", "Prepared", "Processed", "Processor", "Receiver"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_MODULE_OF.get(name, 'errors')}"), name)
    globals()[name] = found  # from now on without this function
    return found
