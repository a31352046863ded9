from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from subprocess import CompletedProcess

import pytest

from tests.integration.cli.processes import HubProcess, Hubs, config_text, hubs, obs_hub

Command = Callable[..., "CompletedProcess[str]"]


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    """One running hub, for all tests of a module."""
    with hubs(forked=True) as started:
        yield started.start(config_text()).until_ready()


@pytest.fixture
def hubs_to_start() -> Iterator[Hubs]:
    """Hubs that a test starts for itself."""
    with hubs(forked=True) as started:
        yield started


@pytest.fixture
def new_hubs_to_start() -> Iterator[Hubs]:
    """The same, each in an interpreter of its own, as its users start them."""
    with hubs() as started:
        yield started


@pytest.fixture(scope="module")
def on_hub(hub: HubProcess) -> Command:
    """Run a command, written as in a shell, on the running hub."""

    def run(command: str, *more: str) -> CompletedProcess[str]:
        words = shlex.split(command)
        assert os.sep not in words[0]
        return obs_hub(*words, *more, "--data-dir", hub.data_dir)

    return run
