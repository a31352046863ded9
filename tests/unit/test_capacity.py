"""What a plan reckons: sums of costs that were measured, what retention leaves of them, and what gives out first."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.capacity import Demand, Figures, load_figures, plan
from tests.bench import capacity as bench
from tests.bench.capacity import fit
from tests.integration.cli.processes import ROOT, obs_hub

DAY = timedelta(days=1)
COSTS = {
    "gateway": {"request": 1e-3, "record": 1e-6, "commit": 2e-3},
    "postgres": {"request": 1e-4, "record": 1e-7, "commit": 1e-3},
    "wal": {"request": 300.0, "record": 10.0, "commit": 100.0},
    "disk": {"request": 50.0, "record": 9.0},
}
FIGURES = Figures(
    machine="a machine",
    load_average=0.1,
    measured="2026-01-01",
    costs={"metrics": COSTS, "logs": COSTS, "traces": COSTS},
    wire={"metrics": 100.0, "logs": 400.0, "traces": 500.0},
    rollup={"gateway": 1e-6, "postgres": 1e-7, "wal": 30.0, "1m_disk": 20.0, "1h_disk": 40.0},
    series_disk=500.0,
    series_memory=300.0,
    receipt=80.0,
    commit_seconds=0.01,
    idle={"gateway": 0.01, "postgres": 0.02, "wal": 100.0, "disk": 10.0, "memory": 120.0},
)
KEPT = {"metrics": 30 * DAY, "logs": 10 * DAY, "traces": DAY, "rollup_1m": 90 * DAY, "rollup_1h": 730 * DAY}
DEMAND = Demand(hosts=100, interval=timedelta(seconds=10), series_per_host=500, logs=200, spans=100, retention=KEPT)


def test_a_plan_is_the_sum_of_what_work_costs() -> None:
    found = plan(DEMAND, FIGURES)
    # 10 requests of 500 points a second, 2 of 100 log records, 1 of 100 spans; each is a commit of its own.
    assert (found.points_per_second, found.requests_per_second, found.series) == (5_000, 13, 50_000)
    assert found.commits_per_second == 13
    records = 5_000 + 200 + 100
    rolled_up = 50_000 / 60
    assert found.gateway_cores == pytest.approx(13 * 3e-3 + records * 1e-6 + 5_000 * 1e-6 + 0.01)
    assert found.postgres_cores == pytest.approx(13 * 1.1e-3 + records * 1e-7 + 5_000 * 1e-7 + 0.02)
    assert found.wal_per_second == pytest.approx(13 * 400 + records * 10 + rolled_up * 30 + 100)
    assert found.disk["metrics"] == pytest.approx((10 * 50 + 5_000 * 9 + 10) * 30 * 86_400)
    assert found.disk["logs"] == pytest.approx((2 * 50 + 200 * 9) * 10 * 86_400)
    assert found.disk["rollup_1m"] == pytest.approx(rolled_up * 20 * 90 * 86_400)
    assert found.disk["rollup_1h"] == pytest.approx(50_000 / 3600 * 40 * 730 * 86_400)
    assert found.disk["receipts"] == pytest.approx(13 * 80 * 86_400)
    assert found.disk["series"] == 50_000 * 500
    assert found.disk_to_have == pytest.approx(sum(found.disk.values()) / 0.75)
    assert (found.gateways, found.postgres_cores_to_have) == (1, 1)


def test_requests_that_come_quicker_than_commits_share_them() -> None:
    few, many = (plan(replace(DEMAND, hosts=hosts), FIGURES) for hosts in (100, 10_000))
    assert few.commits_per_second == few.requests_per_second
    assert many.commits_per_second == many.gateways / FIGURES.commit_seconds < many.requests_per_second
    assert many.gateways == math.ceil(many.gateway_cores / 0.6) > 1


def test_a_gateway_has_memory_for_its_hosts_and_its_part_of_anothers_that_is_away() -> None:
    few, many = (plan(replace(DEMAND, hosts=hosts), FIGURES) for hosts in (100, 10_000))
    idle = FIGURES.idle["memory"] * 2**20
    assert few.gateway_memory == pytest.approx(idle + few.series * FIGURES.series_memory)
    assert many.gateway_memory == pytest.approx(idle + many.series / (many.gateways - 1) * FIGURES.series_memory)


def test_a_series_is_rolled_up_no_more_often_than_it_comes() -> None:
    found = plan(replace(DEMAND, interval=timedelta(minutes=5)), FIGURES)
    assert found.disk["rollup_1m"] == pytest.approx(50_000 / 300 * 20 * 90 * 86_400)


def test_logs_that_loki_keeps_take_nothing_of_the_store() -> None:
    found = plan(replace(DEMAND, logs=2_000, logs_to_loki=True), FIGURES)
    assert found.disk["logs"] == 0
    assert found.loki_bytes_per_day == 2_000 * 400 * 86_400
    assert found.gateway_cores == plan(replace(DEMAND, logs=2_000), FIGURES).gateway_cores
    assert found.postgres_cores < plan(replace(DEMAND, logs=2_000), FIGURES).postgres_cores
    (loki,) = [limit for limit in found.limits if "Loki" in limit.what]
    assert loki.at == pytest.approx(20e9 / (2_000 * 400 * 86_400))


def test_what_gives_out_first_comes_first_and_is_when_it_says() -> None:
    found = plan(replace(DEMAND, hosts=1_000), FIGURES)
    assert [limit.at for limit in found.limits] == sorted(limit.at for limit in found.limits)
    (series,) = [limit for limit in found.limits if "series_limit_total" in limit.what]
    assert series.at == 2
    assert plan(replace(DEMAND, hosts=2_000), FIGURES).series == 1_000_000


def test_costs_are_found_again_in_what_work_took_and_none_is_negative() -> None:
    work = [(100, 1_000, 100), (100, 1_000, 10), (50, 500_000, 50), (10, 1_000, 5)]
    costs = [2e-3, 3e-6, 1e-3]
    assert fit(work, [sum(a * b for a, b in zip(its, costs, strict=True)) for its in work]) == pytest.approx(costs)
    assert fit([(1, 1), (1, 2), (1, 4)], [4.0, 3.0, 1.0])[1] == 0


def test_a_commit_costs_what_it_does_at_the_pace_of_hosts() -> None:
    known = bench.said(plan(bench._PACED, FIGURES))
    for share in (2.0, 0.5):  # what was measured is more than what was fitted, or less
        measured = {name: share * value for name, value in known.items()}
        reckoned = bench.said(plan(bench._PACED, bench._with_pauses(FIGURES, measured)))
        for name in ("gateway cores", "PostgreSQL cores"):
            assert reckoned[name] == pytest.approx(max(measured[name], known[name])), name


def test_the_figures_that_come_with_the_hub_are_whole() -> None:
    known = load_figures()
    for signal in ("metrics", "logs", "traces"):
        for what in ("gateway", "postgres", "wal", "disk"):
            assert sum(known.costs[signal][what].values()) > 0, (signal, what)
    assert known.machine
    found = plan(DEMAND, known)
    assert 0 < found.postgres_cores < found.gateway_cores < 10


SIZES = {
    "1": "--hosts 1 --interval 10s --series-per-host 500 --logs 5",
    "100": "--hosts 100 --interval 15s --series-per-host 500 --logs 200 --spans 100",
    "10,000": "--hosts 10000 --interval 30s --series-per-host 500 --logs 20000 --logs-to loki --spans 2000"
    " --retention metrics=14d --retention rollup_1m=14d",
    "1,000,000: 20 times 50,000": "--hosts 50000 --interval 60s --series-per-host 200 --logs 50000 --logs-to loki"
    " --spans 2000 --retention metrics=7d --retention rollup_1m=7d --retention traces=3d",
}


def row(hosts: str, arguments: str) -> str:
    """Return a row of the table in docs/scaling.md."""
    found = json.loads(obs_hub("plan", *arguments.split(), "--json").stdout)
    cells = (
        hosts,
        f"`{arguments.partition(' ')[2].partition(' ')[2]}`",
        f"{found['points_per_second']:,.0f}",
        f"{found['gateways']} ({found['gateway_cores']:.2g} cores)",
        f"{found['postgres_cores']:.2g}",
        f"{found['wal_per_second'] / 1e6:.2g} MB/s",
        f"{found['disk_to_have'] / 1e9:,.0f} GB",
        next(f"{each['what']}: at {each['at']:,.3g} times" for each in found["limits"] if 1 <= each["at"] < 1_000),
    )
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("hosts", SIZES)
def test_the_page_about_scaling_says_what_the_command_says(hosts: str) -> None:
    assert row(hosts, SIZES[hosts]) in (ROOT / "docs/scaling.md").read_text("utf-8").splitlines()


def test_the_command_shows_a_plan_and_its_json_is_the_same() -> None:
    arguments = ["--hosts", "100", "--logs", "200", "--spans", "100", "--retention", "logs=none"]
    shown = obs_hub("plan", *arguments)
    assert shown.returncode == 0, shown.stderr
    for word in ("3,333 points/s of 50,000 series", "Gateways ", "PostgreSQL ", "Disk ", "Gives out first", "Reckoned"):
        assert word in shown.stdout
    assert "log records, kept for ever, here a year" in shown.stdout
    found = json.loads(obs_hub("plan", *arguments, "--json").stdout)
    assert found["series"] == 50_000
    assert f"{found['gateway_cores']:.2g} cores in all" in shown.stdout
    assert found["figures"]["machine"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--hosts"),
        (["--hosts", "0"], "--hosts"),
        (["--hosts", "1", "--interval", "0s"], "at least 1s"),
        (["--hosts", "1", "--interval", "500ms"], "plan as 1s and so many more series"),
        (["--hosts", "1", "--logs", "nan"], "'--logs': nan: expected records a second"),
        (["--hosts", "1", "--logs", "inf"], "'--logs': inf: expected records a second"),
        (["--hosts", "1", "--spans", "1e300"], "'--spans': 1e+300: expected records a second"),
        (["--hosts", "1", "--spans", "-1"], "'--spans': -1: expected records a second"),
        (["--hosts", "9" * 20], "is not in the range"),
        (["--hosts", "1", "--series-per-host", "9" * 400], "is not in the range"),
        (["--hosts", "1", "--interval", "often"], "expected a duration"),
        (["--hosts", "1", "--retention", "all=3d"], "expected one of metrics, logs, traces"),
        (["--hosts", "1", "--retention", "logs=long"], "expected a duration"),
    ],
)
def test_what_cannot_be_planned_is_told(arguments: list[str], message: str) -> None:
    told = obs_hub("plan", *arguments)
    assert told.returncode == 2
    assert message in told.stderr


def test_the_largest_that_can_be_asked_for_is_still_a_plan() -> None:
    most = str(10**9)
    load = ("--hosts", most, "--series-per-host", most, "--logs", most, "--spans", most, "--records-per-request", "1")
    shown = obs_hub("plan", *load, "--interval", "1s", "--retention", "metrics=none")
    assert shown.returncode == 0, shown.stderr
    assert not re.search(r"\de\+|inf|nan", shown.stdout), shown.stdout


def test_nothing_but_hosts_need_be_said() -> None:
    shown = obs_hub("plan", "--hosts", "1")
    assert shown.returncode == 0, shown.stderr
    assert not re.search(r"\b0\.00 |\b0 commits", shown.stdout), "little is not nothing"
    assert "1 process," in shown.stdout
    assert "a second one, where none may be missed" in shown.stdout
    assert "log records," not in shown.stdout
