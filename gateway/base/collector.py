"""The collector of reference cycles, while a process loads what it needs: all of that stays.

By its usual thresholds it looks through everything again and again while modules are imported, which is an eighth of
what a start takes, and finds nothing.
"""

from __future__ import annotations

import gc

_USUAL = gc.get_threshold()
_SELDOM = 50_000
"""Objects more than before until it looks, instead of about a thousand."""


def collect_seldom() -> None:
    """Let the collector look seldom: for a process that has just begun."""
    gc.set_threshold(_SELDOM)


def keep_what_is_loaded() -> None:
    """Let the collector look as usual again, and never at what there is by now: it stays."""
    gc.freeze()
    gc.set_threshold(*_USUAL)
