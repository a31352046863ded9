"""The delivery pipeline: what stands between receivers and exporters.

Names are imported when they are asked for: whoever reads a configuration does not load what delivers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.pipeline.delivery import Delivery
    from gateway.pipeline.instruments import Instruments
    from gateway.pipeline.pipeline import Pipeline

__all__ = ["Delivery", "Instruments", "Pipeline"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{name.lower()}"), name)
    globals()[name] = found  # from now on without this function
    return found
