"""What a run did not prove, said at its end: a test that is left out must not pass for one that passed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_VARIABLE = re.compile(r"\bOBSHUB_TEST_\w+")
_MISSING = re.compile(r"no .+ on PATH|not (both )?installed|not on PATH|names? no |only root|cannot be ")
"""What the machine lacks. Other reasons say that a test does not apply."""


def unproven(reasons: Iterable[str]) -> list[str]:
    """Say of the reasons for which tests were skipped how many each left unproven, and what would prove them."""
    counted = Counter(reason for reason in reasons if _MISSING.search(reason))
    lines = []
    for reason, count in sorted(counted.items(), key=lambda item: (-item[1], item[0])):
        lines.append(f"{count:4} {'test' if count == 1 else 'tests'}: {reason}{_advice(reason)}")
    return lines


def _advice(reason: str) -> str:
    variables = list(dict.fromkeys(_VARIABLE.findall(reason)))
    if variables == ["OBSHUB_TEST_TIMESCALE_DSN"]:
        return "; run `make test-timescale DSN=postgresql://...`"
    if variables:
        return f"; run `{' '.join(f'{name}=...' for name in variables)} make test`"
    return ""
