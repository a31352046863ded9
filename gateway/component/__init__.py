"""What components are written against: the batch, their interfaces, how they say what they are, and why a batch is
refused.

Names are imported when they are asked for: whoever reads a configuration does not load what delivers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.component.batch import ACCEPTED, Batch, Outcome, Signal, Soundness
    from gateway.component.declaration import (
        Component,
        Context,
        ExporterComponent,
        ExtensionComponent,
        ProcessorComponent,
        ProcessorSettings,
        ReceiverComponent,
        SourceComponent,
    )
    from gateway.component.documents import (
        Counts,
        DestinationError,
        DocumentSettings,
        DocumentSource,
        NoChangeStreamsError,
        Place,
        SourceError,
    )
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
    from gateway.component.interfaces import (
        Consumer,
        Exporter,
        Prepared,
        Processed,
        Processor,
        Receiver,
        Reconfigurable,
        Service,
    )

__all__ = [
    "ACCEPTED",
    "Batch",
    "Component",
    "Consumer",
    "Context",
    "Counts",
    "DeliveryError",
    "DestinationError",
    "DocumentSettings",
    "DocumentSource",
    "Exporter",
    "ExporterComponent",
    "ExtensionComponent",
    "MalformedPayloadError",
    "NoChangeStreamsError",
    "NoPipelineError",
    "Outcome",
    "OverloadedError",
    "PartlyRefusedError",
    "Place",
    "Prepared",
    "Processed",
    "Processor",
    "ProcessorComponent",
    "ProcessorSettings",
    "Receiver",
    "ReceiverComponent",
    "Reconfigurable",
    "RefusedError",
    "Service",
    "Signal",
    "Soundness",
    "SourceComponent",
    "SourceError",
    "TimedOutError",
    "TooLargeError",
    "TooLargeForDestinationError",
    "UnavailableError",
]

_MODULES = {
    "batch": ("ACCEPTED", "Batch", "Outcome", "Signal", "Soundness"),
    "declaration": (
        "Component",
        "Context",
        "ExporterComponent",
        "ExtensionComponent",
        "ProcessorComponent",
        "ProcessorSettings",
        "ReceiverComponent",
        "SourceComponent",
    ),
    "documents": (
        "Counts",
        "DestinationError",
        "DocumentSettings",
        "DocumentSource",
        "NoChangeStreamsError",
        "Place",
        "SourceError",
    ),
    "interfaces": (
        "Consumer",
        "Exporter",
        "Prepared",
        "Processed",
        "Processor",
        "Receiver",
        "Reconfigurable",
        "Service",
    ),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_MODULE_OF.get(name, 'errors')}"), name)
    globals()[name] = found  # from now on without this function
    return found
