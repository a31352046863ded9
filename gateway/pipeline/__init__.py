"""The delivery pipeline, and the interfaces that receivers and exporters are written against."""

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
from gateway.pipeline.interfaces import (
    ACCEPTED,
    Consumer,
    Exporter,
    Outcome,
    Prepared,
    Receiver,
)
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
