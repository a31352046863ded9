"""What was read of frames is used again, and never where the store has something else by now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any, LiteralString

import numpy as np
import pytest
from psycopg import sql

from gateway.query.config import QuerySettings
from gateway.query.errors import ExecutionError
from gateway.query.promql.engine import Engine
from gateway.query.promql.results import Matrix, Vector
from gateway.query.reading.arrays import row_of
from gateway.query.reading.connection import Reading
from gateway.query.reading.frames import Memory, Slice, Stretch
from gateway.query.reading.querier import StoreQuerier
from gateway.query.series import Hints, Matcher, Series, is_stale
from gateway.query.service import QueryService
from tests.support.databases import Database, Server, fresh_store
from tests.support.prometheus import DELTA, NO_VALUE, Collection, matchers, querying, select
from tests.support.stores import running_exporter, store

STEP = 300_000
COUNT = 24
LAST = time.time_ns() // 10**6 // STEP * STEP
FIRST = LAST - (COUNT - 1) * STEP
START = FIRST - 1
HALF = STEP // 2
MINUTE = 60_000


def collection(at: int, value: float, flags: int = 0) -> Collection:
    return (
        Collection(at)
        .gauge("a", value)
        .gauge("b", -value, flags=flags)
        .counter("c", 2 * value)
        .counter("d", 1, temporality=DELTA)
    )


def report(database: Database, several: Sequence[Collection]) -> None:
    """Store collections as one gateway does: the first of its process as rows, the others as frames."""

    async def run() -> None:
        async with running_exporter(database) as exporter:
            for each in several:
                await store(exporter, each.batch)

    asyncio.run(run())


@pytest.fixture(scope="module")
def past(server: Server) -> Iterator[Database]:
    """Two hours of one service; nothing is added to it."""
    with fresh_store(server) as database:
        report(database, [collection(FIRST + n * STEP, n, NO_VALUE * (n == COUNT - 1)) for n in range(COUNT)])
        yield database


@pytest.fixture
def stored(database: Database) -> Database:
    report(database, [collection(FIRST + n * STEP, n) for n in range(COUNT)])
    return database


def read(service: QueryService, name: str, start: int = START, end: int = LAST) -> tuple[list[int], list[float], int]:
    """Return times and values of a series, and how many bytes PostgreSQL sent for them."""
    usage = service.usage()
    with service.querier(usage) as its:
        found = select(its, start, end, name=name)
    (series,) = found
    return series.times.tolist(), series.values.tolist(), usage.size


def test_a_query_that_is_asked_again_reads_next_to_nothing(past: Database) -> None:
    with querying(past) as service, querying(past, max_remembered=0) as other:
        first, again = read(service, "a"), read(service, "a")
        assert again[:2] == first[:2] == read(other, "a")[:2]
        assert first[0] == [FIRST + n * STEP for n in range(COUNT)]
        assert first[1] == list(range(COUNT))
        assert again[2] < first[2] - 12 * 2 * (COUNT - 1), "neither times nor values are sent again"
        assert read(other, "a")[2] == read(other, "a")[2], "without memory they are"


def test_a_selector_that_is_asked_again_waits_for_postgresql_once(
    past: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = 0
    asked = Reading._copied

    def counted(self: Reading, queries: Sequence[bytes]) -> Iterator[tuple[int, list[memoryview]]]:
        nonlocal waits
        waits += 1
        return asked(self, queries)

    with querying(past) as service:
        first = read(service, "a")
        monkeypatch.setattr(Reading, "_copied", counted)
        assert read(service, "a")[:2] == first[:2]
        assert waits == 1
        # Of another time, and of one that is too short to be remembered, what is asked ahead is another.
        assert read(service, "a", START, LAST - STEP)[:2] == (first[0][:-1], first[1][:-1])
        assert read(service, "a", LAST - STEP)[:2] == (first[0][-1:], first[1][-1:])
        assert waits == 3


def test_members_of_a_set_are_told_apart_wherever_they_stand(database: Database) -> None:
    width = 60

    def wide(at: int, n: int) -> Collection:
        its = Collection(at)
        for member in range(width):
            its.gauge("wide", 1000 * member + n, attributes={"member": str(member)})
        return its

    report(database, [wide(FIRST + n * STEP, n) for n in range(COUNT)])
    dice = np.random.default_rng(7)
    with querying(database) as service:
        for count in (1, 2, 3, 3, 4, 5, 8, 16, 17, 30, width):
            members = sorted(dice.choice(width, count, replace=False).tolist())
            asked = [*matchers(name="wide"), Matcher("member", "=~", "|".join(map(str, members)))]
            for start in (START, START, LAST - 2 * STEP):  # read, remembered, and too short for that
                with service.querier(service.usage()) as its:
                    found = its.select(asked, start, LAST, Hints())
                values = {int(series.labels["member"]): series.values.tolist() for series in found}
                first = 0 if start == START else COUNT - 2
                assert values == {member: [1000 * member + n for n in range(first, COUNT)] for member in members}
        shapes = {len(slice_.places) for slices in service._memory._slices.values() for slice_ in slices}
    assert 0 in shapes, "side by side"
    assert shapes & {2, 3, 4, 5}, "one by one"


def test_few_members_that_are_far_apart_are_asked_for_one_by_one() -> None:
    assert Slice.of(1, [7]) == Slice(1, 7, 1)
    assert Slice.of(1, [3, 4, 6]) == Slice(1, 3, 4)
    assert Slice.of(1, [3, 4, 6]).columns([3, 4, 6]) == [0, 1, 3]
    apart = Slice.of(1, [3, 20, 37])
    assert apart == Slice(1, 3, 3, (3, 20, 37))
    assert apart.columns([3, 20, 37]) == [0, 1, 2]
    assert Slice.of(1, list(range(1, 1000, 50))) == Slice(1, 1, 951), "many of them are a slice"


def test_a_query_that_fails_leaves_its_connection_to_others(past: Database) -> None:
    with querying(past) as service:

        def asked(statement: LiteralString, *, fails: bool = False) -> Any:
            with service.reading(service.usage()) as reading:
                used.append(reading._connection)
                reading.rows(sql.SQL(statement), row_of(("one", ">i4")))
                if fails:
                    raise ExecutionError("nothing matches")

        used: list[Any] = []
        asked("SELECT 1")
        with pytest.raises(ExecutionError, match="nothing matches"):
            asked("SELECT 1", fails=True)
        with pytest.raises(ExecutionError, match="DivisionByZero"):
            asked("SELECT 1 / 0")
        with service.reading(service.usage()) as broken:
            used.append(broken._connection)
            next(broken._messages([b"SELECT generate_series(1, 1000000)"]))
        asked("SELECT 1")
        *same, other = used
        assert same == same[:1] * 4
        assert other is not same[0], "rows were still on their way"


def test_what_is_remembered_serves_every_time_range_within_it(past: Database) -> None:
    dice = np.random.default_rng(5)
    with querying(past) as service, querying(past, max_remembered=0) as other:
        for _ in range(12):
            start, end = sorted(dice.integers(START - 2 * STEP, LAST + 2 * STEP, 2).tolist())
            start, end = min(start, LAST - 1), max(end, FIRST)
            if not any(start < FIRST + n * STEP <= end for n in range(COUNT)):
                continue
            assert read(service, "a", start, end)[:2] == read(other, "a", start, end)[:2]


def test_stale_markers_stay_what_they_are(past: Database) -> None:
    with querying(past) as service:
        for _ in range(2):
            with service.querier(service.usage()) as its:
                (series,) = select(its, START, LAST, name="b")
                assert is_stale(series.values).tolist() == [False] * (COUNT - 1) + [True]


def test_points_that_come_late_are_there(stored: Database) -> None:
    late = [collection(FIRST + n * STEP + HALF, 100 + n) for n in (3, 9, 10)]
    with querying(stored) as service:
        before = read(service, "a")
        frames = stored.count("frame")
        report(stored, late)  # another gateway, which had to wait
        assert stored.count("frame") > frames
        times, values, _ = read(service, "a")
        assert sorted(set(times) - set(before[0])) == [each.at for each in late]
        assert sorted(set(values) - set(before[1])) == [103, 109, 110]
        assert read(service, "a")[:2] == (times, values)


def test_points_that_come_now_are_there(stored: Database) -> None:
    with querying(stored) as service:
        assert read(service, "c_total", end=LAST + STEP)[0][-1] == LAST
        report(stored, [collection(LAST + n * MINUTE, 50 + n) for n in (1, 2)])
        times, values, _ = read(service, "c_total", end=LAST + STEP)
        assert (times[-2:], values[-2:]) == ([LAST + MINUTE, LAST + 2 * MINUTE], [102, 104])


def test_a_series_that_appears_beside_others_is_there(stored: Database) -> None:
    with querying(stored) as service:
        read(service, "a")
        newer = [
            Collection(FIRST + n * STEP + HALF, {"service.name": "new", "service.instance.id": "2"}) for n in range(3)
        ]
        report(stored, [each.gauge("a", 7) for each in newer])
        with service.querier(service.usage()) as its:
            found = select(its, START, LAST, name="a")
        assert [len(series.times) for series in found] == [COUNT, 3]


def test_what_retention_dropped_is_gone(stored: Database) -> None:
    with querying(stored) as service:
        read(service, "a")
        if stored.native:
            partitions = stored.run(
                "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'frame'::regclass"
            )
            for (partition,) in partitions:
                stored.run(f"DROP TABLE {partition}")
        else:
            stored.run("SELECT drop_chunks('frame', now() + interval '1 day')")
        assert read(service, "a")[0] == [FIRST], "of the first collection, which is rows"


def test_another_database_of_the_same_name_is_another_store(embedded_server: Server) -> None:
    """As after restoring a backup: as many points at the same times, and other values."""
    with fresh_store(embedded_server) as one, fresh_store(embedded_server) as other:
        for database, sign in ((one, 1), (other, -1)):
            report(database, [collection(FIRST + n * STEP, sign * n) for n in range(COUNT)])
        where = one
        service = QueryService(QuerySettings(), lambda: where.dsn)
        try:
            assert read(service, "a")[1] == list(range(COUNT))
            where = other
            assert read(service, "a")[1] == [-n for n in range(COUNT)]
        finally:
            service.close()


class Hintless:
    """Reads all that there is, whatever the query makes of it."""

    def __init__(self, querier: StoreQuerier) -> None:
        self._querier = querier

    def select(self, matchers: Sequence[Matcher], start: int, end: int, hints: Hints) -> Sequence[Series]:
        return self._querier.select(matchers, start, end, Hints())

    series = label_names = label_values = None


@pytest.mark.parametrize(
    "query",
    [
        "a",
        "sum(a)",
        "timestamp(b)",
        "a offset 7m",
        "c_total @ end()",
        "max_over_time(a[5m])",
        "increase(c_total[10m])",
        "count_over_time(a[20m])",
        "d_total",
        "increase(d_total[10m])",
        "max_over_time(a[1h:25m])",
        "max_over_time(sum(a)[1h:25m] offset 3m)",
    ],
)
@pytest.mark.parametrize(("step", "lookback"), [(25, 5), (25, 12), (7, 5), (5, 5)])
def test_what_nobody_looks_at_is_not_missed(past: Database, query: str, step: int, lookback: int) -> None:
    """Queries of few steps read of each only what they look back at."""
    start, end = FIRST + 12_345, LAST - 54_321
    with querying(past) as service:
        answers = []
        for hinted in (True, False):
            with service.querier(service.usage()) as its:
                engine = Engine(its if hinted else Hintless(its), lookback=lookback * MINUTE)  # type: ignore[arg-type]
                found = engine.range(query, start, end, step * MINUTE).value
                assert isinstance(found, Matrix)
                now = engine.instant(query, end).value
                assert isinstance(now, Vector)
                answers.append(
                    [[(line.labels, line.times.tolist(), line.values.tolist()) for line in found.series], now.samples]
                )
        assert answers[0][0]
        assert repr(answers[0]) == repr(answers[1])


def test_few_steps_read_few_frames(past: Database) -> None:
    with querying(past, max_remembered=0) as service:
        sizes = []
        for hints in (Hints(step=6 * STEP, range=STEP, last_only=True), Hints(step=6 * STEP, range=STEP), Hints()):
            usage = service.usage()
            with service.querier(usage) as its:
                its.select(matchers(name="a"), START, LAST, hints)
            sizes.append(usage.samples)
        assert sizes[0] <= sizes[1] < sizes[2] / 3


def stretch(count: int, width: int = 1) -> Stretch:
    return Stretch(np.arange(count), np.zeros((width, count)), count)


def test_no_more_is_remembered_than_allowed() -> None:
    memory = Memory(10 * stretch(100).size)
    for n in range(50):
        memory.keep({((1,), Slice(n, 1, 1), 0): stretch(100)})
        assert memory.used <= memory.size
    assert memory.find(((1,), Slice(49, 1, 1), 0), 100) is not None
    assert memory.find(((1,), Slice(49, 1, 1), 0), 101) is None, "the store has another frame"
    assert memory.find(((2,), Slice(49, 1, 1), 0), 100) is None, "another store"
    assert memory.find(((1,), Slice(0, 1, 1), 0), 100) is None, "the longest unused went first"
    used = memory.used
    memory.keep({((1,), Slice(n, 1, 1), 0): stretch(100) for n in range(100, 110)})
    assert memory.used == used, "one query does not take the place of all others"
    memory.keep({((1,), Slice(49, 1, 1), 0): stretch(90)})
    assert memory.used < used, "what was there before is replaced"
    nothing = Memory(0)
    nothing.keep({((1,), Slice(1, 1, 1), 0): stretch(1)})
    assert nothing.used == 0
