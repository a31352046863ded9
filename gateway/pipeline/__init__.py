"""The delivery pipeline, and the interfaces that receivers and exporters are written against."""

from gateway.pipeline.batch import Batch, Signal
from gateway.pipeline.errors import (
    DeliveryError,
    MalformedPayloadError,
    OverloadedError,
    RefusedError,
    UnavailableError,
)
from gateway.pipeline.interfaces import (
    ACCEPTED,
    Committed,
    Consumer,
    Exporter,
    Outcome,
    Prepared,
    Receiver,
)

__all__ = [
    "ACCEPTED",
    "Batch",
    "Committed",
    "Consumer",
    "DeliveryError",
    "Exporter",
    "MalformedPayloadError",
    "Outcome",
    "OverloadedError",
    "Prepared",
    "Receiver",
    "RefusedError",
    "Signal",
    "UnavailableError",
]
