"""What plugins are tested by: the contract of exporters. It needs pytest."""

from typing import TYPE_CHECKING, Any

from obs_hub import open_folder

open_folder()

from gateway.testing import *  # noqa: E402, F403
from gateway.testing import __all__ as __all__  # noqa: E402

if TYPE_CHECKING:
    # As in `obs_hub.component`.
    def __getattr__(name: str) -> Any: ...
