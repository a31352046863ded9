"""Following secrets that are rotated, without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from gateway.base.settings import Settings
from gateway.config import Config, ConfigError

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SECTIONS = ("receivers", "exporters", "extensions")


class Rotation:
    """Reads the configuration again now and then, and hands on settings whose secrets have changed.

    ``apply`` is given the section, the name and the new settings of a component; it returns whether the component took
    them. What else has changed in the file is not applied: it takes effect at the next start, as always.
    """

    def __init__(
        self,
        config: Config,
        read: Callable[[], Config],
        apply: Callable[[str, str, Settings], bool],
        interval: float,
        rotated: Callable[[], None] = lambda: None,
    ) -> None:
        """``rotated`` is called after each change, when the configuration says what is in use now."""
        self._rotated = rotated
        self._config = config
        self._read = read
        self._apply = apply
        self._interval = interval
        self._failing = False

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                config = await asyncio.to_thread(self._read)
            except (ConfigError, OSError) as error:
                if not self._failing:
                    _log.warning("rotated secrets cannot be read; those before stay in use", reason=str(error))
                self._failing = True
                continue
            except Exception:  # to follow no more, and not to say so, would be worse
                _log.exception("following secrets failed; it is tried again")
                continue
            self._failing = False
            if self.take(config):
                try:
                    self._rotated()
                except OSError as error:
                    _log.warning("that secrets were rotated cannot be written down for commands", reason=str(error))

    def take(self, config: Config) -> bool:
        """Hand on what has changed in the values that came from a secret source. Returns whether anything has."""
        changed = False
        for section in _SECTIONS:
            for name, before in getattr(self._config, section).items():
                after = getattr(config, section).get(name)
                places = [place[2:] for place in self._config.secret_places if place[:2] == (section, name)]
                if after is None or not places or not _changed(before, after, places):
                    continue
                if self._apply(section, name, after):
                    _log.info("a secret has been rotated and is in use", component=name)
                else:
                    _log.warning("a secret has been rotated; it is used from the next start on", component=name)
                getattr(self._config, section)[name] = after
                changed = True
        return changed


def _changed(before: Settings, after: Settings, places: list[tuple[Any, ...]]) -> bool:
    return any(_value(before, place) != _value(after, place) for place in places)


def _value(settings: Any, place: tuple[Any, ...]) -> Any:
    """Return what stands at a place of the configuration, or the nearest value around it that can be found."""
    for step in place:
        try:
            settings = getattr(settings, step) if isinstance(settings, Settings) else settings[step]
        except (AttributeError, KeyError, IndexError, TypeError):
            return settings
    return settings
