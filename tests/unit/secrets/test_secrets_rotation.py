"""Following secrets goes on, whatever comes between."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from typing import Any

from pydantic import SecretStr

from exporters.timescale.config import TimescaleConfig
from gateway.base.settings import Settings
from gateway.config import Config, load
from gateway.secrets.rotation import Rotation
from tests.support.logged import Logged
from tests.support.waiting import PATIENCE


def of(dsn: str, **others: Any) -> Config:
    """A configuration in which only the DSN comes from a secret source."""
    exporters = {"timescale": TimescaleConfig(dsn=SecretStr(dsn), **others)}
    places = frozenset({("exporters", "timescale", "dsn")})
    return dataclasses.replace(load(None), exporters=exporters, secret_places=places)


def test_only_settings_whose_secrets_have_changed_are_handed_on_and_once() -> None:
    taken: list[tuple[str, str, Settings]] = []

    def apply(*new: Any) -> bool:
        taken.append(new)
        return True

    rotation = Rotation(of("host=before"), lambda: of("never"), apply, 1)
    rotation.take(of("host=before", retention={"logs": timedelta(days=3)}))
    assert taken == []
    for _ in range(2):
        rotation.take(of("host=after"))
    assert taken == [("exporters", "timescale", of("host=after").exporters["timescale"])]


async def test_a_failure_that_nobody_thought_of_does_not_end_it(logged: Logged) -> None:
    answers: list[Config | Exception] = [TypeError("nobody thought of this"), of("host=after")]
    taken: asyncio.Queue[Settings] = asyncio.Queue()

    def read() -> Config:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def apply(section: str, name: str, settings: Settings) -> bool:
        taken.put_nowait(settings)
        return True

    following = asyncio.create_task(Rotation(of("host=before"), read, apply, 0.01).run())
    try:
        async with asyncio.timeout(PATIENCE):
            assert await taken.get() == of("host=after").exporters["timescale"]
    finally:
        following.cancel()
    assert "following secrets failed; it is tried again" in logged.text
