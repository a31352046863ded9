"""The collector of reference cycles looks seldom while a process loads, and as usual afterwards."""

from __future__ import annotations

import subprocess
import sys

_LOADED = """
import gc
from gateway.base.collector import collect_seldom, keep_what_is_loaded
usual = gc.get_threshold()
collect_seldom()
before = sum(each["collections"] for each in gc.get_stats())
loaded = [[] for _ in range(40_000)]
assert sum(each["collections"] for each in gc.get_stats()) == before
keep_what_is_loaded()
assert (gc.isenabled(), gc.get_threshold()) == (True, usual)
assert gc.get_freeze_count() >= 40_000
"""


def test_what_is_loaded_is_not_looked_through() -> None:
    """In a process of its own: it is the process's collector."""
    subprocess.run([sys.executable, "-c", _LOADED], check=True)
