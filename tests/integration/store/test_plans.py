"""How PostgreSQL plans what users ask, on a store whose statistics are like those of a large one: by index, by set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.store.layout import Connection
from gateway.store.reader import PLANNING
from tests.bench.reads import ALIKE, METRICS, fill
from tests.support.databases import Database
from tests.support.stores import migrate

pytestmark = pytest.mark.empty_database  # with the partitions that its points need, and no others

_HOSTS, _STEPS = 10, 120
_SERIES = _HOSTS * METRICS * ALIKE
_STEP = timedelta(minutes=30)
"""So that the points are of some days, each of which has a partition."""

Node = dict[str, Any]


@dataclass
class Filled:
    connection: Connection
    end: datetime
    native: bool

    def plan(self, query: str) -> list[Node]:
        """Run a query; return the nodes of its plan, each after the one above it."""
        explain = "EXPLAIN (ANALYZE, VERBOSE, TIMING OFF, SUMMARY OFF, FORMAT JSON) "
        asked = query.format(end=self.end.isoformat())
        ((plans,),) = self.connection.execute((explain + asked).encode()).fetchall()

        def walk(node: Node) -> Iterator[Node]:
            yield node
            for child in node.get("Plans", ()):
                yield from walk(child)

        return list(walk(plans[0]["Plan"]))

    def value(self, query: str) -> Any:
        ((value,),) = self.connection.execute(query.encode()).fetchall()
        return value

    def parts(self, table: str) -> set[str]:
        """The names of the partitions or chunks of a table."""
        query = (
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass"
            if self.native
            else "SELECT c::text FROM show_chunks(%s::regclass) c"
        )
        return {row[0].rpartition(".")[2] for row in self.connection.execute(query.encode(), (table,))}


@pytest.fixture(scope="module")
def filled(module_database: Database) -> Iterator[Filled]:
    present = migrate(module_database)
    with module_database.connect() as connection:
        end = fill(connection, present, _SERIES, _SERIES * _STEPS, _STEP)
        connection.execute("SET max_parallel_workers_per_gather = 0")
        for setting, value in PLANNING.items():
            connection.execute(f"SET {setting} = '{value}'".encode())
        # Partitions of a large store are so large that the pages between are not read along.
        connection.execute("SET random_page_cost = 1.1")
        yield Filled(connection, end, module_database.native)


def scans(plan: list[Node], parts: set[str]) -> list[Node]:
    """What of a plan reads a table, of which these are the parts, and was run."""
    return [node for node in plan if node.get("Relation Name") in parts and node["Actual Loops"] > 0]


def read(nodes: list[Node]) -> float:
    """How many rows scans read in all, with those that a filter removed."""
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0))
        * node["Actual Loops"]
        for node in nodes
    )


def conditions(node: Node) -> str:
    """The condition by which a scan finds its rows: its own, or that of the bitmap below it."""
    below = "".join(child.get("Index Cond", "") for child in node.get("Plans", ()))
    return str(node.get("Index Cond", "")) + below


_SERIES_QUERY = (
    "SELECT time, value FROM metrics WHERE name = 'bench.metric.07' AND host_name = 'host-003'"
    ' AND attributes @> \'{{"device": "dev-5"}}\' AND time > {when} ORDER BY time'
)


@pytest.mark.parametrize("when", ["timestamptz '{end}' - interval '6 hours'", "now() - interval '6 hours'"])
def test_one_series_is_read_by_its_set_and_time_and_from_the_partitions_of_that_time(filled: Filled, when: str) -> None:
    plan = filled.plan(_SERIES_QUERY.replace("{when}", when))
    found = scans(plan, filled.parts("frame"))
    assert 1 <= len(found) <= 2 < len(filled.parts("frame"))
    for node in found:
        assert "set_id" in conditions(node)
        assert '"time" >' in conditions(node)
    assert read(found) == plan[0]["Actual Rows"] <= 12


def test_the_newest_points_of_a_host_are_found_without_the_others(filled: Filled) -> None:
    plan = filled.plan(
        "SELECT * FROM metrics WHERE name = 'bench.metric.07' AND host_name = 'host-003' ORDER BY time DESC LIMIT 100"
    )
    found = scans(plan, filled.parts("frame"))
    assert all("set_id" in conditions(node) for node in found)
    assert read(found) <= ALIKE * _STEPS
    sorts = [node for node in plan if node["Node Type"] == "Sort"]
    assert {node["Sort Method"] for node in sorts if node["Actual Rows"] >= 100} <= {"top-N heapsort"}
    # Nanoseconds are numbers of any length, which cost as much as the rest of a point: only those shown are made.
    above = plan[: plan.index(sorts[0])]
    assert [node["Actual Rows"] for node in above if _makes_nanoseconds(node)] == [100]
    assert not any(map(_makes_nanoseconds, plan[plan.index(sorts[0]) :]))


def _makes_nanoseconds(node: Node) -> bool:
    """Whether a node of a plan computes what only ``unix_nano`` does, rather than hand it on."""
    return any(said.startswith("CASE WHEN") and "numeric(20,0)" in said for said in node.get("Output", ()))


def test_newest_points_sorts_no_more_than_it_returns(filled: Filled) -> None:
    plan = filled.plan("SELECT * FROM newest_points('bench.metric.07', 'host-003')")
    found = scans(plan, filled.parts("frame"))
    assert all("set_id" in conditions(node) for node in found)
    points = filled.value("SELECT count(*) FROM metrics WHERE name = 'bench.metric.07' AND host_name = 'host-003'")
    assert plan[0]["Actual Rows"] == 100
    assert read(found) < 2 * 100 + 50 < points / 3
    for node in plan:
        if "Sort" in node["Node Type"]:
            assert sum(child["Actual Rows"] for child in node["Plans"]) <= 100 + 2 * ALIKE


def test_the_latest_of_each_series_looks_at_the_end_of_its_set(filled: Filled) -> None:
    plan = filled.plan("SELECT * FROM metrics_latest WHERE name = 'bench.metric.07'")
    assert plan[0]["Actual Rows"] == _HOSTS * ALIKE
    found = scans(plan, filled.parts("frame"))
    assert all("set_id" in conditions(node) for node in found)
    # Of so few frames as a set has in one partition here, all may be read and sorted: of other sets and days, none.
    assert read(found) <= timedelta(days=1) // _STEP * _HOSTS * ALIKE
    rows = scans(plan, filled.parts("sample"))
    assert all("series_id" in conditions(node) and '"time" >' in conditions(node)
               for node in rows if node["Node Type"] != "Seq Scan")  # fmt: skip
    assert read(rows) <= 3 * _HOSTS * ALIKE


def test_many_series_are_joined_by_their_sets_whose_frames_are_read_once(filled: Filled) -> None:
    plan = filled.plan(
        "SELECT date_bin('1 hour', time, 'epoch') AS hour, avg(value) FROM metrics"
        " WHERE name = 'bench.metric.07' AND time > timestamptz '{end}' - interval '20 hours' GROUP BY 1"
    )
    found = scans(plan, filled.parts("frame"))
    assert all('"time" >' in conditions(node) for node in found)
    assert len(found) < len(filled.parts("frame"))
    frames = filled.value(
        f"SELECT count(*) FROM frame WHERE time > '{filled.end.isoformat()}'::timestamptz - interval '20 hours'"
    )
    assert read(found) <= frames, "each frame once, not once for each of its series"
    by_set = [node for node in plan if "set_id" in str(node.get("Cache Key", "")) + str(node.get("Hash Cond", ""))]
    assert by_set


def test_the_catalogue_reads_no_points(filled: Filled) -> None:
    plan = filled.plan("SELECT * FROM metric_catalogue")
    assert plan[0]["Actual Rows"] == METRICS
    names = {node["Relation Name"] for node in plan if "Relation Name" in node}
    assert names == {"metric", "metric_seen", "series"}
    assert filled.value("SELECT sum(series) FROM metric_catalogue") == _SERIES


@pytest.mark.parametrize("view", ["histograms", "summaries"])
def test_distributions_are_found_by_their_series(filled: Filled, view: str) -> None:
    """A condition on the series gets through the union of both kinds of histograms, and past the bounds."""
    filled.connection.execute("SET enable_seqscan = off")  # there are none, and none is quicker to read in full
    try:
        plan = filled.plan(f"SELECT * FROM {view} WHERE name = 'bench.metric.07'")
    finally:
        filled.connection.execute("RESET enable_seqscan")
    tables = ("histogram_sample", "exp_histogram_sample") if view == "histograms" else ("summary_sample",)
    for table in tables:
        found = [node for node in plan if node.get("Relation Name") in filled.parts(table) | {table}]
        assert all("series_id" in conditions(node) for node in found)
        assert found or not filled.parts(table)
