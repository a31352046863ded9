"""What plugins are written against: batches, the interfaces of components, and why a batch is refused."""

from obs_hub import open_folder

open_folder()

from gateway.component import *  # noqa: E402, F403
from gateway.component import __all__ as __all__  # noqa: E402
