"""What a wheel has at other places than a checkout. A checkout that is installed as it is has it all where it lies."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WheelHook(BuildHookInterface[Any]):
    """Adds the files and folders of its table ``force-include`` to wheels, and not to editable ones.

    There they would be copies, which come before what is edited.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add them to what is built; ``version`` is what hatchling calls the kind of wheel."""
        if version != "editable":
            build_data["force_include"].update(self.config["force-include"])
