"""What there is and what came last as views, and bounds of histograms and quantiles of summaries as a dimension.

What is in the store stays where it is and is read through the same views. When its metrics were first and last seen is
looked for in the background (`gateway.store.seen`); distributions that repeat their bounds age out.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from gateway.store import layout
from gateway.store.migrations import run_file


def upgrade(connection: layout.Connection, wanted_layout: str) -> None:
    """Make the views, the dimension, and the columns that refer to it."""
    for name in ("0008_catalogue.sql", "0008_distributions.sql", "0008_comments.sql"):
        run_file(connection, name)
    if connection.execute(_USED).fetchone() == (True,):
        # What points there are of before, and are larger than they would be now, `gateway.store.earlier` tells by it.
        layout.write_setting(connection, "compact_since", json.dumps(datetime.now(UTC).isoformat()))


_USED = """
SELECT EXISTS (SELECT FROM sample) OR EXISTS (SELECT FROM histogram_sample) OR EXISTS (SELECT FROM exp_histogram_sample)
    OR EXISTS (SELECT FROM summary_sample)
"""
