"""Write the table of docs/reliability.md: ``python -m tests.faults.table faults.jsonl``.

The file is what `OBSHUB_TEST_FAULT_SUMMARY` names. Proofs of the same fault in the same topology are added up.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

_COUNTS = ("rounds", "sent", "acknowledged", "found", "lost", "duplicated", "changed")
_HEAD = ("fault", "topology", *_COUNTS)


def table(lines: list[str]) -> str:
    """Return the proofs of a run as Markdown, ordered by fault as they first came."""
    sums: dict[str, dict[str, Counter[str]]] = {}
    without: set[tuple[str, str]] = set()
    for proof in map(json.loads, lines):
        fault, topology = proof["fault"], proof["topology"]
        counts = sums.setdefault(fault, {}).setdefault(topology, Counter())
        counts.update({name: proof[name] or 0 for name in _COUNTS})
        if proof["changed"] is None:  # it was not looked at in the store
            without.add((fault, topology))
    total: Counter[str] = Counter()
    rows = [" | ".join(_HEAD), "---|---|" + "|".join("---:" for _ in _COUNTS)]
    for fault, by_topology in sums.items():
        for topology, counts in by_topology.items():
            total.update(counts)
            figures = [f"{counts[name]:,}" for name in _COUNTS]
            if (fault, topology) in without:
                figures[-1] = "–"  # noqa: RUF001
            rows.append(" | ".join((fault, topology, *figures)))
    rows.append(" | ".join(("**all**", "", *(f"**{total[name]:,}**" for name in _COUNTS))))
    return "".join(f"| {row} |\n" if not row.startswith("---") else f"|{row}|\n" for row in rows)


if __name__ == "__main__":
    print(table(Path(sys.argv[1]).read_text().splitlines()), end="")
