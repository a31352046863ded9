"""What is read from a store for a page: the numbers that the content asks for, and never a word of telemetry."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.publishing.content import Content
from gateway.publishing.readings import Readings, read
from gateway.publishing.site import Build, files
from tests.integration.cli.processes import obs_hub
from tests.support.databases import Database
from tests.support.publishing import PRIVATE, STATUS, content, hub_status
from tests.support.stores import asked, maintain, running_exporter, store
from tests.support.telemetry import SECOND, gauge, histogram, logs, spans

NOW = datetime.now(UTC).replace(microsecond=0)
TODAY = NOW.replace(hour=0, minute=0, second=0)
HUB = {"service.name": "obs-hub", "host.name": "nas-17.secret.example"}
EVERY = timedelta(minutes=5)
CHARTS = """\
charts:
  - title: Load
    metric: system.cpu.load_average.1m
    lines: [{name: Attic, host: nas-17.secret.example}, {name: Cellar, host: elsewhere}]
  - title: Commits
    metric: latency
    unit: seconds
    lines: [{name: Commits, quantile: p95}]
"""


def hours(first: int, last: int) -> list[int]:
    """Every five minutes between two hours of yesterday, in nanoseconds."""
    begin = TODAY - timedelta(days=1)
    count = (last - first) * 12
    return [int((begin + timedelta(hours=first) + n * EVERY).timestamp()) * SECOND for n in range(count)]


def reading(database: Database, its: Content) -> Readings:
    with asked(database) as opened:
        return read(opened, its, NOW)


async def fill(database: Database, *batches: object, rolled_up: bool = True) -> None:
    async with running_exporter(database) as exporter:
        await store(exporter, *batches)  # type: ignore[arg-type]
    if rolled_up:
        maintain(database)


def flat(times: Iterable[int], value: float = 0.0) -> dict[int, float]:
    return dict.fromkeys(times, value)


@pytest.mark.parametrize("rolled_up", [True, False], ids=["rolled up", "not rolled up yet"])
async def test_yesterday_is_told_by_what_came(database: Database, tmp_path: Path, rolled_up: bool) -> None:
    """The hub was off from 6 to 8, its store from 12 to 13, and the attic from 5 to 7 and from 20 on."""
    alive = [*hours(0, 6), *hours(8, 24)]
    attic = [*hours(0, 5), *hours(7, 20)]
    circuit = {time: float(time in set(hours(12, 13))) for time in alive}
    await fill(
        database,
        gauge(flat(alive), name="obs_hub.in_flight.size", resource=HUB),
        gauge(circuit, name="obs_hub.circuit.open", attributes={"exporter": "timescale"}, resource=HUB),
        gauge(flat(alive, 1.0), name="obs_hub.circuit.open", attributes={"exporter": "other"}, resource=HUB),
        gauge(flat(attic, 9.0), name="system.uptime", resource={"host.name": "nas-17.secret.example"}),
        gauge(flat(hours(0, 24)), name="system.uptime", resource={"host.name": "another"}),
        rolled_up=rolled_up,
    )
    found = reading(database, content(tmp_path, {"status.yaml": STATUS}))
    assert found.notes == []
    told = {}
    for name, history in found.histories.items():
        day = history.days[-2]
        told[name] = tuple(round(share * 24, 3) for share in (day.up, day.degraded, day.down, day.unknown))
    assert told == {
        "Gateway": (22, 0, 2, 0),
        "Store": (21, 0, 1, 2),  # of the hours in which the hub was off, nobody knows
        "Attic": (18, 0, 5, 1),  # from 7 to 8 it was heard of, later: it had kept what it could not send
    }
    yesterday = TODAY - timedelta(days=1)
    off = found.histories["Gateway"].outages[-1]
    assert (off.start, off.end) == (yesterday + timedelta(hours=6), yesterday + timedelta(hours=8))
    assert all(day.known == 0 for history in found.histories.values() for day in history.days[:-2])


async def test_a_hub_that_has_just_begun_is_up_and_not_down_before(native_database: Database, tmp_path: Path) -> None:
    now = int(NOW.timestamp()) * SECOND
    times = [now - n * 15 * SECOND for n in range(80)]
    await fill(native_database, gauge(flat(times), name="obs_hub.in_flight.size", resource=HUB), rolled_up=False)
    history = reading(native_database, content(tmp_path, {"status.yaml": STATUS})).histories["Gateway"]
    assert history.available == 1
    assert history.outages == []


async def test_many_gaps_are_read_at_once(native_database: Database, tmp_path: Path) -> None:
    """Of a store whose rollups are of every second interval, more gaps are to be looked into than are, one by one."""
    times = list(itertools.chain.from_iterable(hours(n, n + 1)[::2] for n in range(24)))
    before = [time - 86_400 * SECOND * n for time in times for n in range(3)]
    await fill(native_database, gauge(flat(before), name="obs_hub.in_flight.size", resource=HUB))
    history = reading(native_database, content(tmp_path, {"status.yaml": STATUS})).histories["Gateway"]
    assert [round(day.up, 3) for day in history.days[-4:-1]] == [0.5, 0.5, 0.5]


async def test_charts_have_the_lines_that_were_named(database: Database, tmp_path: Path) -> None:
    now = int(NOW.timestamp())
    times = [(now - n * 600) * SECOND for n in range(1, 145)]
    name = "system.cpu.load_average.1m"
    await fill(
        database,
        gauge(flat(times, 2.0), name=name, resource={"host.name": "nas-17.secret.example"}),
        gauge(flat(times, 90.0), name=name, resource={"host.name": "not-named"}),
        *(histogram((now - n * 60) * SECOND) for n in range(5)),
    )
    found = reading(database, content(tmp_path, {"charts.yaml": CHARTS}))
    load, commits = found.charts
    for span in load.spans:
        attic, cellar = span.lines
        assert (attic.name, {value for value in attic.values if value is not None}) == ("Attic", {2.0})
        assert not any(value is not None for value in cellar.values)
    assert [span.days for span in load.spans] == [2, 7, 30]
    assert 60 <= sum(value is not None for value in load.spans[0].lines[0].values) <= 90, "a day of two"
    assert [value for value in commits.spans[0].lines[0].values if value is not None], "drawn from a histogram"
    assert found.notes == ["chart 'Load', line 'Cellar': the store has no such series of system.cpu.load_average.1m"]


HOSTILE = '"><script>alert(1)</script>\u202e${HOME}<!--'


async def test_nothing_that_telemetry_says_is_published(native_database: Database, tmp_path: Path) -> None:
    """Whoever sends telemetry may write anything into it, and what is measured has names that are nobody's business."""
    now = int(NOW.timestamp()) * SECOND
    secret = "leak-5e1f"
    resource = {
        "host.name": "nas-17.secret.example", "host.ip": f"{secret}-10.9.8.7", "service.name": "obs-hub",
        "service.version": f"{secret}-1.2.3", "cloud.account.id": secret, f"{secret}.key": HOSTILE,
    }  # fmt: skip
    attributes = {"exporter": "timescale", secret: HOSTILE, "url.full": f"https://{secret}.example/?token={secret}"}
    times = flat([now - n * 15 * SECOND for n in range(40)], 1.0)
    metrics = ("obs_hub.in_flight.size", "obs_hub.circuit.open", "system.uptime", "system.cpu.load_average.1m")
    await fill(
        native_database,
        *(gauge(times, name=name, attributes=attributes, resource=resource) for name in metrics),
        gauge(times, name=f"{secret}.metric", attributes=attributes, resource=resource),
        logs(secret, HOSTILE, resource=resource, event=secret),
        spans(secret, HOSTILE, resource=resource),
        rolled_up=False,
    )
    its = content(tmp_path, {"status.yaml": STATUS, "charts.yaml": CHARTS})
    found = reading(native_database, its)
    made = files(Build(its, NOW, True, hub_status(), found))
    everything = b"".join(made[name] for name in sorted(made) if not name.endswith((".png", ".ico"))).decode()
    assert "Attic" in everything
    assert "Load" in everything
    for private in (secret, "<script", "alert(", "nas-17", "secret.example", "10.9.8.7", "obs_hub.", *PRIVATE):
        assert private not in everything


async def test_the_command_reads_the_store_as_somebody_who_may_only_read(
    native_database: Database, tmp_path: Path
) -> None:
    now = time.time_ns()  # the command reads until it is run, and this may be long after the tests were found
    times = flat([now - n * 15 * SECOND for n in range(40)])
    await fill(native_database, gauge(times, name="obs_hub.in_flight.size", resource=HUB), rolled_up=False)
    content(tmp_path / "mine", {"status.yaml": STATUS})
    command = ["page", "build", "--output", tmp_path / "site", "--content", tmp_path / "mine", "--publish-outage"]
    address = ["--url", "http://127.0.0.1:1"]
    made = obs_hub(*command, *address, "--dsn", native_database.dsn, OBSHUB_DATA_DIR=str(tmp_path))
    assert made.returncode == 0, made.stderr
    assert "Note: component 'Attic': the store has no such series of system.uptime" in made.stderr
    assert "100 % of what is known" in (tmp_path / "site/status.html").read_text()
    assert json.loads((tmp_path / "site/status.json").read_text())["status"] == "down"
    nowhere = obs_hub(
        *command, *address, "--dsn", "host=127.0.0.1 port=1 connect_timeout=1", OBSHUB_DATA_DIR=str(tmp_path)
    )
    assert nowhere.returncode == 1
    assert "the store cannot be read" in nowhere.stderr
