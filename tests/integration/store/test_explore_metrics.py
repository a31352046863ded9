"""``obs-hub metrics`` on a store: the catalogue, and values that can be worked out by hand."""

from __future__ import annotations

import asyncio
import csv
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from click.testing import CliRunner, Result
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from gateway.cli import main
from gateway.component import Batch, Signal
from tests.support.databases import Database
from tests.support.stores import maintain, running_exporter, store
from tests.support.telemetry import DAY, SECOND, gauge, now, set_attributes

Metrics = Callable[..., Result]

MINUTE = 60 * SECOND
DELTA, CUMULATIVE = 1, 2
START = now() // MINUTE * MINUTE - 12 * MINUTE
"""The tests ask for the ten minutes from here on, and some for the last hour, of which a slow run may take the rest."""


def metric_batch(
    kind: str, name: str, unit: str, points: Sequence[Mapping[str, Any]], host: str = "nas", **fields: Any
) -> Batch:
    """A metric of one host; `points` are the fields of its points, and `fields` those of a sum or histogram."""
    request = ExportMetricsServiceRequest()
    owner = request.resource_metrics.add()
    set_attributes(owner.resource.attributes, {"host.name": host, "deployment.environment": "home"})
    data = getattr(owner.scope_metrics.add().metrics.add(name=name, unit=unit), kind)
    data.SetInParent()
    for key, value in fields.items():
        setattr(data, key, value)
    for given in points:
        attributes = dict(given).pop("attributes", {})
        point = data.data_points.add(**{key: value for key, value in given.items() if key != "attributes"})
        set_attributes(point.attributes, attributes)
    return Batch.of(Signal.METRICS, request.SerializeToString())


def counter(
    name: str, values: Sequence[float], host: str = "nas", temporality: int = CUMULATIVE, **attributes: str
) -> Batch:
    """A monotonic sum with a value each minute from `START`."""
    began = {"start_time_unix_nano": START - MINUTE, "attributes": attributes}
    points = [{"time_unix_nano": START + n * MINUTE, "as_double": value, **began} for n, value in enumerate(values)]
    return metric_batch("sum", name, "By", points, host, aggregation_temporality=temporality, is_monotonic=True)


def histogram(name: str, temporality: int, counts: Sequence[Sequence[int]]) -> Batch:
    points = [
        {
            "time_unix_nano": START + n * MINUTE, "start_time_unix_nano": START - MINUTE, "count": sum(buckets),
            "explicit_bounds": [1, 2], "bucket_counts": buckets,
        }
        for n, buckets in enumerate(counts)
    ]  # fmt: skip
    return metric_batch("histogram", name, "s", points, aggregation_temporality=temporality)


def minutes(*values: float) -> dict[int, float]:
    return {START + n * MINUTE: value for n, value in enumerate(values)}


BATCHES = [
    gauge(minutes(0.1, 0.2, float("nan"), 0.4), name="load", attributes={"cpu": "0"}),
    gauge(minutes(0.3, 0.4, 0.5, 0.6), name="load", attributes={"cpu": "1"}),
    gauge(minutes(0.5), name="load", attributes={"cpu": "0"}, resource={"host.name": "pi"}),
    counter("io", [0, 600, 1200, 60, 660], direction="in"),
    counter("io", [0, 60, 120, 180, 240], direction="out"),
    counter("io", [0, 6, 12, 18, 24], host="pi", direction="in"),
    counter("requests", [0, 60, 120, 0, 600], temporality=DELTA),
    metric_batch(
        "sum", "memory", "By",
        [{"time_unix_nano": START, "as_int": 3 * 2**30}, {"time_unix_nano": START + MINUTE, "as_int": 2**30}],
        aggregation_temporality=CUMULATIVE,
    ),
    histogram("latency", CUMULATIVE, [(9, 9, 9), (9, 19, 9), (19, 19, 9), (0, 4, 0)]),
    histogram("delta latency", DELTA, [(0, 4, 0), (4, 0, 0)]),
    metric_batch(
        "histogram", "one bucket", "ns",
        [
            {
                "time_unix_nano": START + n * MINUTE, "start_time_unix_nano": START - MINUTE, "count": 4 * (n + 1),
                "sum": 20.0 * (n + 1), "min": 1, "max": 9, "bucket_counts": [4 * (n + 1)],
            }
            for n in range(2)
        ],
        aggregation_temporality=CUMULATIVE,
    ),
    metric_batch(
        "exponential_histogram", "sizes", "By",
        [{
            "time_unix_nano": START, "start_time_unix_nano": START - MINUTE, "count": 4, "scale": 0,
            "positive": {"offset": 2, "bucket_counts": [4]},
        }],
        aggregation_temporality=DELTA,
    ),
    metric_batch(
        "summary", "gc", "ms",
        [{"time_unix_nano": START, "count": 2, "sum": 3.0, "quantile_values": [{"quantile": 0.5, "value": 7.0}]}],
    ),
    metric_batch(
        "sum", "steady", "By",
        [
            {
                "time_unix_nano": START + at * SECOND,
                "start_time_unix_nano": START - MINUTE,
                "as_double": 10.0 * (at + 60),
            }
            for at in (0, 14, 31, 44, 62, 75, 89, 118, 121, 149, 160, 179, 199, 205, 224, 236, 251, 263, 295)
        ],
        aggregation_temporality=CUMULATIVE, is_monotonic=True,
    ),
    gauge(minutes(1.7e308, -1.7e308, float("inf")), name="extremes"),
    metric_batch("sum", "alone", "1", [{"time_unix_nano": START, "as_int": 1}], is_monotonic=True),
    gauge({START - 3 * DAY: 1.0}, name="old"),
    gauge(minutes(1), name="evil\x1b[2J", attributes={"\x1b[2J": "\x1b[2J\n"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def filled_database(module_database: Database) -> Database:
    async def fill() -> None:
        async with running_exporter(module_database) as exporter:
            await store(exporter, *BATCHES)

    asyncio.run(fill())
    if module_database.native:
        maintain(module_database)
    return module_database


@pytest.fixture
def metrics(filled_database: Database, monkeypatch: pytest.MonkeyPatch) -> Metrics:
    monkeypatch.setenv("COLUMNS", "110")

    def run(options: str = "") -> Result:
        return CliRunner().invoke(main, ["metrics", "--dsn", filled_database.dsn, *shlex.split(options)])

    return run


@pytest.fixture
def values(metrics: Metrics) -> Callable[..., dict[str, list[float]]]:
    """Return the values of the ten minutes, a minute apart, by the labels of their line."""
    from gateway.base.instants import iso_time

    window = f"--since {iso_time(START)[:19]}Z --until {iso_time(START + 10 * MINUTE)[:19]}Z"

    def run(options: str, step: str = "1m") -> dict[str, list[float]]:
        result = metrics(f"{options} {window} --step {step} -o json")
        assert (result.exit_code, result.stderr) == (0, "")
        lines = map(json.loads, result.stdout.splitlines())
        return {" ".join(line["labels"].values()): [value for _, value in line["points"]] for line in lines}

    return run


Values = Callable[..., dict[str, list[float]]]


def test_a_gauge_is_shown_by_series_without_what_is_no_number(values: Values) -> None:
    assert values("load --where host_name=nas --by cpu") == {"0": [0.1, 0.2, 0.4], "1": [0.3, 0.4, 0.5, 0.6]}
    assert set(values("load")) == {"0 nas test", "1 nas test", "0 pi"}


def test_gauges_of_a_group_are_averaged_and_sums_added_up(values: Values) -> None:
    assert values("load --by host_name")["nas"] == pytest.approx([0.2, 0.3, 0.4, 0.5])
    assert values("io --total") == {
        "": pytest.approx([(600 + 60 + 6) / 60] * 2 + [(60 + 60 + 6) / 60, (600 + 60 + 6) / 60])
    }


def test_a_counter_is_a_rate_and_begins_anew_without_harm(values: Values) -> None:
    assert values("io --by host_name,direction") == {"nas in": [10, 10, 1, 10], "nas out": [1] * 4, "pi in": [0.1] * 4}
    assert values("io --no-rate --where direction=out") == {"out nas": [0, 60, 120, 180, 240]}
    assert values("io --where host_name=pi", step="5m") == {"in pi": pytest.approx([0.1])}


def test_the_increase_of_delta_sums_is_what_they_say(values: Values) -> None:
    assert values("requests --total") == {"": [0, 1, 2, 0, 10]}


def test_a_sum_that_may_fall_is_a_value_unless_asked_otherwise(values: Values) -> None:
    assert values("memory --total") == {"": [3 * 2**30, 2**30]}
    assert values("memory --total --rate") == {"": [pytest.approx(-(2**31) / 60)]}


def test_rollups_say_the_same(values: Values, filled_database: Database) -> None:
    raw, rolled_up = values("io --total", step="119s"), values("io --total", step="2m")
    assert rolled_up[""] == pytest.approx([11.1, (11.1 + 2.1) / 2, 11.1])
    assert len(raw[""]) == 3
    assert values("load --by cpu --where host_name=nas", step="2m")["0"] == pytest.approx([0.15, 0.4])
    assert values("requests --total", step="2m")[""] == pytest.approx([0.5, 1, 5])


def test_a_steady_counter_has_one_rate_whenever_in_its_minute_it_was_read(values: Values) -> None:
    for step in ("1m", "2m"):
        rates = values("steady --total", step=step)[""]
        assert rates == pytest.approx([10] * len(rates))
        assert len(rates) >= 3


def test_histograms_are_quantiles_of_what_was_added(values: Values) -> None:
    # Ten between 1 and 2, then ten up to 1, then four between 1 and 2 after it began anew.
    latency = values("latency --total")
    assert latency["p50"] == [1.5, 0.5, 1.5]
    assert latency["p95"] == pytest.approx([1.95, 0.95, 1.95])
    assert values("'delta latency' --total")["p50"] == [1.5, 0.5]
    assert values("sizes --total")["p50"] == [6]
    assert values("gc --total") == {"p50": [7]}


def test_a_histogram_of_one_bucket_has_no_quantile_where_nothing_says_where_it_lies(metrics: Metrics) -> None:
    shown = metrics("'one bucket' --since 1h --step 1m -o csv")
    assert shown.exit_code == 0, shown.output
    values = [row[-1] for row in csv.reader(shown.stdout.splitlines()[1:])]
    assert all(value and float(value) >= 1 for value in values)


def test_where_finds_attributes_of_points_and_resources(values: Values) -> None:
    assert set(values("io --where deployment.environment=home --where direction=in --by host_name")) == {"nas", "pi"}


def test_values_that_no_sum_has_room_for_are_left_out(values: Values, metrics: Metrics) -> None:
    shown = metrics("extremes")
    assert "no values in this time" in shown.stdout
    assert "that are finite numbers" in shown.stderr
    assert metrics("extremes -o json").stdout == ""


def test_a_metric_without_values_in_the_time_says_when_it_had_some(metrics: Metrics) -> None:
    shown = metrics("old -o csv")
    assert (shown.exit_code, len(shown.stdout.splitlines())) == (0, 1)
    assert "old has no values from" in shown.stderr
    assert "the newest before is 3d 0h old, --since 4d shows it" in shown.stderr
    assert metrics("old --since 4d").stderr == ""


def test_a_rate_of_one_point_says_what_it_lacks(metrics: Metrics) -> None:
    assert "no two values" in metrics("alone --since 1h").stderr


def test_one_line_is_a_chart_and_several_are_sparklines(metrics: Metrics) -> None:
    chart = metrics("memory --total").stdout
    assert "memory (sum)" in chart
    assert "3 GiB ┤" in chart
    assert "min 1 GiB  avg 2 GiB  max 3 GiB  last 1 GiB" in chart
    several = metrics("load --by cpu --where host_name=nas --step 1m").stdout.splitlines()
    assert several[0] == "load (gauge)"
    assert several[2] == "by cpu"
    assert several[4].split()[0] == "0"
    assert several[4].split()[-8:] == ["10", "%", "23.3", "%", "40", "%", "40", "%"]
    limited = metrics("load --limit 1").stdout
    assert "(the largest 1 of 3: --limit shows more, --where fewer, --by adds them up)" in limited


def test_csv_has_a_column_for_each_label(metrics: Metrics) -> None:
    header, *rows = csv.reader(metrics("io --by host_name --since 1h --step 1m -o csv").stdout.splitlines())
    assert header == ["time", "name", "unit", "host_name", "value"]
    assert {(row[2], row[3]) for row in rows} == {("By/s", "nas"), ("By/s", "pi")}


def test_the_catalogue_lists_what_there_is(metrics: Metrics) -> None:
    header, *lines = metrics().stdout.splitlines()
    assert header.split() == ["METRIC", "TYPE", "UNIT", "SERIES", "SEEN", "ATTRIBUTES"]
    assert len(lines) == 14
    (io,) = [line.split() for line in lines if line.startswith("io ")]
    assert (io[:4], io[-2:]) == (["io", "sum", "By", "3"], ["ago", "direction"])
    assert [json.loads(line)["name"] for line in metrics("'l*' -o json").stdout.splitlines()] == ["latency", "load"]
    assert [json.loads(line)["name"] for line in metrics("'i?' -o json").stdout.splitlines()] == ["io"]
    none = metrics("'%*' -o json")
    assert (none.exit_code, none.stdout) == (0, "")
    assert "the store has no metric %*" in none.stderr
    assert "did you mean memory?" in metrics("'memmory*'").stderr
    assert metrics("-o csv 'g*'").stdout.splitlines()[0] == "name,type,unit,series,last_seen,attributes"


def test_names_are_harmless(metrics: Metrics) -> None:
    for options in ("'evil*'", "'evil\x1b[2J'"):
        result = metrics(options)
        assert result.exit_code == 0
        assert "evil" in result.stdout
        assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ("loa", 1, "no metric loa; did you mean load?"),
        ("nothing", 1, "`obs-hub metrics` lists what there is"),
        ("memmory", 1, "no metric memmory; did you mean memory?"),
        ("load --where cpu=9", 1, "no series of load has cpu=9; known: 0, 1"),
        ("load --where cpu=0 --where host_name=naz", 1, "no series of load has host_name=naz; did you mean 'nas'?"),
        ("load --where cpu=1 --where host_name=pi", 1, "no series of load has cpu=1 host_name=pi"),
        ("load --where nope=1", 1, "--where: no series of load has an attribute nope; known: cpu, host.name"),
        ("load --by nope", 1, "--by: no series of load has an attribute nope; known: cpu, host.name"),
        ("load --by hostname", 1, "no series of load has an attribute hostname; did you mean 'host_name'?"),
        ("load --where cpu", 2, "'cpu' is not KEY=VALUE"),
        ("load --by cpu --total", 2, "give one"),
        ("load --since 1m --until 2m", 2, "--since is not before --until"),
        ("load --step 1ms", 2, "10,000 are the most"),
    ],
)
def test_what_cannot_be_shown_is_said(metrics: Metrics, options: str, code: int, said: str) -> None:
    result = metrics(options)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
