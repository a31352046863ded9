"""What plugins are written against: batches, the interfaces of components, and why a batch is refused."""

from typing import TYPE_CHECKING, Any

from obs_hub import open_folder

open_folder()

from gateway.component import *  # noqa: E402, F403
from gateway.component import __all__ as __all__  # noqa: E402

if TYPE_CHECKING:
    # Type checkers follow paths alone, and find none from here in an installation: there, what they cannot know is Any.
    def __getattr__(name: str) -> Any: ...
