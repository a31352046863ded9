"""PromQL's functions and operators, with values worked out from the documentation of Prometheus."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path

import pytest

from gateway.query import promql
from gateway.query.errors import ExecutionError, LimitExceededError, QueryCanceledError, QueryError, QueryTimeoutError
from gateway.query.promql.context import Limits
from gateway.query.promql.engine import Engine
from gateway.query.promql.nodes import AGGREGATIONS, FUNCTIONS
from gateway.query.promql.results import Vector
from gateway.query.series import STALE
from tests.support.memory_series import MINUTE, MemoryQuerier, same, table

nan, inf = math.nan, math.inf


def querier() -> MemoryQuerier:
    store = MemoryQuerier()
    store.add('requests_total{job="web", code="200"}', [0, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600])
    store.add('requests_total{job="web", code="500"}', [0, 6, 12, 18, 24, 30, 36, 42, 48, 54, 60])
    store.add('requests_total{job="db", code="200"}', [100, 130, 160, 10, 40, 70, 100, 130, 160, 190, 220])
    store.add('temperature{room="a"}', [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
    store.add('temperature{room="b"}', [20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0])
    store.add('temperature{room="c"}', [3, None, 3, None, 3, 9, 3, 3, 3, 3, nan])
    store.add('limit{room="a", owner="x"}', [5] * 11)
    store.add('limit{room="b", owner="y"}', [5] * 11)
    store.add('odd{kind="negative"}', [-2.5] * 11)
    store.add('odd{kind="positive"}', [0.5] * 11)
    store.add("ended", [1, 2, 3, STALE])
    store.add('up{instance="i1", job="web"}', [1] * 11)
    store.add('target_info{instance="i1", job="web", version="7", host="h1"}', [1] * 11)
    for bound, count in (("0.1", 10), ("0.5", 30), ("1", 40), ("+Inf", 50)):
        store.add(f'latency_bucket{{le="{bound}"}}', [count] * 11)
    return store


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(querier())


WEB200, WEB500, DB200 = "{code=200,job=web}", "{code=500,job=web}", "{code=200,job=db}"

INSTANT: list[tuple[str, object]] = [
    # Selectors: the newest sample of the last five minutes, to the end of a series.
    ('temperature{room="a"}', {"temperature{room=a}": 11}),
    ('temperature{room=~"a|b", room!="b"}', {"temperature{room=a}": 11}),
    ('temperature{room!~"a|c"}', {"temperature{room=b}": 0}),
    ('temperature{room="a"} offset 2m', {"temperature{room=a}": 9}),
    ('temperature{room="a"} offset -4m', {"temperature{room=a}": 11}),
    ('temperature{room="a"} offset -5m', {}),
    ('temperature{room="a"} @ 60', {"temperature{room=a}": 2}),
    ('temperature{room="a"} @ 120 offset 1m', {"temperature{room=a}": 2}),
    ("ended", {}),
    ("ended @ 120", {"ended": 3}),
    ("ended offset 8m", {"ended": 3}),
    # Numbers and texts.
    ("2 ^ 3 ^ 2", 512),
    ("-2 ^ 2", -4),
    ("7 % -3", 1),
    ("-7 % 3", -1),
    ("1 / 0", inf),
    ("0 / 0", nan),
    ("1 atan2 1", math.pi / 4),
    ("3 > bool 2", 1),
    ("3 == bool NaN", 0),
    ("'text'", "text"),
    ("time()", 600),
    ("pi()", math.pi),
    ("start() + 2 * end()", 1800.0),
    ("max_of(1, 2) + min_of(1, 2)", 3),
    ("scalar(temperature{room='a'})", 11),
    ("scalar(temperature)", nan),
    ("vector(3)", {"{}": 3}),
    # A vector and a scalar.
    ('temperature{room="a"} * 2', {"{room=a}": 22}),
    ('2 - temperature{room="a"}', {"{room=a}": -9}),
    ('temperature{room=~"a|b"} > 5', {"temperature{room=a}": 11}),
    ('5 > temperature{room=~"a|b"}', {"temperature{room=b}": 0}),
    ('temperature{room=~"a|b"} > bool 5', {"{room=a}": 1, "{room=b}": 0}),
    ('-temperature{room="a"}', {"{room=a}": -11}),
    ('+temperature{room="a"}', {"temperature{room=a}": 11}),
    # Two vectors.
    ("temperature - ignoring(owner) limit", {"{room=a}": 6, "{room=b}": -5}),
    ("temperature - on(room) limit", {"{room=a}": 6, "{room=b}": -5}),
    ("temperature > on(room) limit", {"{room=a}": 11}),
    ("temperature > bool on(room) limit", {"{room=a}": 1, "{room=b}": 0}),
    (
        "temperature * on(room) group_left(owner) limit",
        {"{owner=x,room=a}": 55, "{owner=y,room=b}": 0},
    ),
    (
        "limit * on(room) group_right(owner) temperature",
        {"{owner=x,room=a}": 55, "{owner=y,room=b}": 0},
    ),
    (
        'requests_total{job="web"} / on(job) group_left sum by (job) (requests_total)',
        {WEB200: 600 / 660, WEB500: 60 / 660},
    ),
    (
        'temperature{room=~"a|b"} + on(room) fill(1) limit{room="a"}',
        {"{room=a}": 16, "{room=b}": 1},
    ),
    ('limit{room="a"} + on(room) fill_left(7) limit', {"{room=a}": 10, "{room=b}": 12}),
    # Sets.
    ("temperature and on(room) limit", {"temperature{room=a}": 11, "temperature{room=b}": 0}),
    ("temperature unless on(room) limit", {"temperature{room=c}": nan}),
    (
        "limit or on(room) temperature",
        {"limit{owner=x,room=a}": 5, "limit{owner=y,room=b}": 5, "temperature{room=c}": nan},
    ),
    ("temperature and nothing", {}),
    ('temperature{room="a"} unless nothing', {"temperature{room=a}": 11}),
    ('nothing or temperature{room="a"}', {"temperature{room=a}": 11}),
    # Aggregations.
    ("sum(requests_total)", {"{}": 880}),
    ("sum by (job) (requests_total)", {"{job=web}": 660, "{job=db}": 220}),
    ("sum without (code) (requests_total)", {"{job=web}": 660, "{job=db}": 220}),
    ("sum by (nothing) (requests_total)", {"{}": 880}),
    ("avg by (job) (requests_total)", {"{job=web}": 330, "{job=db}": 220}),
    ("min(temperature)", {"{}": 0}),
    ("max(temperature)", {"{}": 11}),
    ("max(temperature{room='c'})", {"{}": nan}),
    ("count(temperature)", {"{}": 3}),
    ("group(temperature)", {"{}": 1}),
    ("stdvar(limit or temperature{room='a'})", {"{}": 8}),
    ("stddev(limit or temperature{room='a'})", {"{}": math.sqrt(8)}),
    ("quantile(0.5, requests_total)", {"{}": 220}),
    ("quantile(0.25, requests_total)", {"{}": 140}),
    ("quantile(2, requests_total)", {"{}": inf}),
    ("topk(2, requests_total)", {f"requests_total{WEB200}": 600, f"requests_total{DB200}": 220}),
    ("bottomk(1, requests_total)", {f"requests_total{WEB500}": 60}),
    ("topk(1, temperature)", {"temperature{room=a}": 11}),
    (
        "topk by (job) (1, requests_total)",
        {f"requests_total{WEB200}": 600, f"requests_total{DB200}": 220},
    ),
    ("topk(0, temperature)", {}),
    ("count(limitk(2, temperature))", {"{}": 2}),
    ("count(limit_ratio(0.5, requests_total) or limit_ratio(-0.5, requests_total))", {"{}": 3}),
    ('count_values("value", limit)', {"{value=5}": 2}),
    (
        'count_values by (room) ("v", temperature{room=~"a|b"})',
        {"{room=a,v=11}": 1, "{room=b,v=0}": 1},
    ),
    # Rates: samples reach to within a tenth of their distance of both ends, so that they count for the whole window.
    ('rate(requests_total{job="web"}[5m])', {WEB200: 1, WEB500: 0.1}),
    ('increase(requests_total{job="web"}[5m])', {WEB200: 300, WEB500: 30}),
    ('increase(requests_total{job="db"}[4m] @ 240)', {DB200: (60 + 10 - 30 + 40 - 10 + 0 + 30 - 30) / 3 * 4 - 0}),
    ('delta(temperature{room="a"}[5m])', {"{room=a}": 5}),
    ('irate(requests_total{code="500"}[5m])', {WEB500: 0.1}),
    ('irate(requests_total{job="db"}[2m] @ 180)', {DB200: 10 / 60}),
    ('idelta(temperature{room="b"}[5m])', {"{room=b}": -2}),
    ('rate(requests_total{job="web"}[30s])', {}),
    ('resets(requests_total{job="db"}[10m])', {DB200: 1}),
    ('changes(temperature{room="c"}[7m] offset 1m)', {"{room=c}": 2}),
    # Windows exclude their beginning.
    ('count_over_time(temperature{room="a"}[5m])', {"{room=a}": 5}),
    ('sum_over_time(temperature{room="a"}[5m])', {"{room=a}": 7 + 8 + 9 + 10 + 11}),
    ("sum_over_time(odd[3m])", {"{kind=negative}": -7.5, "{kind=positive}": 1.5}),
    ('avg_over_time(temperature{room="a"}[5m])', {"{room=a}": 9}),
    ("avg_over_time(odd[3m])", {"{kind=negative}": -2.5, "{kind=positive}": 0.5}),
    ('min_over_time(temperature{room="c"}[5m])', {"{room=c}": 3}),
    ('max_over_time(temperature{room="c"}[6m])', {"{room=c}": 9}),
    ('max_over_time(temperature{room="c"}[30s])', {"{room=c}": nan}),
    ('first_over_time(temperature{room="a"}[5m])', {"temperature{room=a}": 7}),
    ('last_over_time(temperature{room="a"}[5m])', {"temperature{room=a}": 11}),
    ('stdvar_over_time(temperature{room="a"}[5m])', {"{room=a}": 2}),
    ('stddev_over_time(temperature{room="a"}[5m])', {"{room=a}": math.sqrt(2)}),
    ('quantile_over_time(0.5, temperature{room="a"}[5m])', {"{room=a}": 9}),
    ('quantile_over_time(0.1, temperature{room="a"}[5m])', {"{room=a}": 7 * 0.6 + 8 * 0.4}),
    ('quantile_over_time(-1, temperature{room="a"}[5m])', {"{room=a}": -inf}),
    ('mad_over_time(temperature{room="a"}[5m])', {"{room=a}": 1}),
    ('present_over_time(temperature{room="a"}[5m])', {"{room=a}": 1}),
    ('absent_over_time(nothing{a="b", c=~"d"}[5m])', {"{a=b}": 1}),
    ("absent_over_time(temperature[5m])", {}),
    ('ts_of_first_over_time(temperature{room="a"}[5m])', {"{room=a}": 360}),
    ('ts_of_last_over_time(temperature{room="a"}[5m])', {"{room=a}": 600}),
    ('ts_of_max_over_time(temperature{room="b"}[5m])', {"{room=b}": 360}),
    ('ts_of_min_over_time(temperature{room="b"}[5m])', {"{room=b}": 600}),
    ('deriv(temperature{room="a"}[5m])', {"{room=a}": 1 / 60}),
    ('predict_linear(temperature{room="b"}[5m], 60)', {"{room=b}": -2}),
    ('predict_linear(limit{room="a"}[5m], 60)', {"{owner=x,room=a}": 5}),
    # s1 = 10; b = 1; 0.5·11 + 0.5·(10 + 1)
    ('double_exponential_smoothing(temperature{room="a"}[2m], 0.5, 0.5)', {"{room=a}": 11}),
    # Subqueries: multiples of the step, the beginning of the range excluded.
    ('count_over_time(temperature{room="a"}[5m:1m])', {"{room=a}": 5}),
    ('count_over_time(temperature{room="a"}[5m:])', {"{room=a}": 5}),
    ('max_over_time(rate(requests_total{code="500"}[2m])[5m:1m])', {WEB500: 0.1}),
    ("sum_over_time(vector(1)[3m:20s])", {"{}": 9}),
    ('sum_over_time(temperature{room="a"}[2m:1m] @ 120)', {"{room=a}": 5}),
    ('sum_over_time(temperature{room="a"}[2m:1m] offset 1m)', {"{room=a}": 19}),
    # Mathematics.
    ("abs(odd)", {"{kind=negative}": 2.5, "{kind=positive}": 0.5}),
    ("ceil(odd)", {"{kind=negative}": -2, "{kind=positive}": 1}),
    ("floor(odd)", {"{kind=negative}": -3, "{kind=positive}": 0}),
    ("round(odd)", {"{kind=negative}": -2, "{kind=positive}": 1}),
    ("round(odd, 5)", {"{kind=negative}": 0, "{kind=positive}": 0}),
    ("sgn(odd)", {"{kind=negative}": -1, "{kind=positive}": 1}),
    ("sqrt(odd)", {"{kind=negative}": nan, "{kind=positive}": math.sqrt(0.5)}),
    ("exp(odd{kind='positive'})", {"{kind=positive}": math.exp(0.5)}),
    ("ln(odd)", {"{kind=negative}": nan, "{kind=positive}": math.log(0.5)}),
    ("log2(odd{kind='positive'})", {"{kind=positive}": -1}),
    ("log10(limit{room='a'} * 20)", {"{owner=x,room=a}": 2}),
    ("clamp(odd, -1, 0)", {"{kind=negative}": -1, "{kind=positive}": 0}),
    ("clamp(odd, 1, 0)", {}),
    ("clamp_min(odd, 0)", {"{kind=negative}": 0, "{kind=positive}": 0.5}),
    ("clamp_max(odd, 0)", {"{kind=negative}": -2.5, "{kind=positive}": 0}),
    ("deg(vector(pi()))", {"{}": 180}),
    ("rad(vector(180))", {"{}": math.pi}),
    *(
        (f"{name}(vector(0.5))", {"{}": getattr(math, name)(0.5)})
        for name in ("acos", "asin", "atan", "cos", "cosh", "sin", "sinh", "tan", "tanh", "asinh", "atanh")
    ),
    ("acosh(vector(2))", {"{}": math.acosh(2)}),
    # Dates: 951782400 is Tuesday, 29 February 2000, 00:00 UTC.
    ("day_of_month(vector(951782400))", {"{}": 29}),
    ("day_of_week(vector(951782400))", {"{}": 2}),
    ("day_of_year(vector(951782400))", {"{}": 60}),
    ("days_in_month(vector(951782400))", {"{}": 29}),
    ("hour(vector(951782399))", {"{}": 23}),
    ("minute(vector(951782399))", {"{}": 59}),
    ("month(vector(951782400))", {"{}": 2}),
    ("year(vector(951782400))", {"{}": 2000}),
    ("year(vector(-1))", {"{}": 1969}),
    ("minute()", {"{}": 10}),
    # Times.
    ('timestamp(temperature{room="a"} offset 30s)', {"{room=a}": 540}),
    ('timestamp(temperature{room="a"} * 1)', {"{room=a}": 600}),
    ("start_timestamp(temperature)", {}),
    # Labels.
    (
        'label_replace(limit{room="a"}, "who", "$1-${2}", "owner", "(x)(.*)")',
        {"limit{owner=x,room=a,who=x-}": 5},
    ),
    ('label_replace(limit{room="a"}, "owner", "", "room", "a")', {"limit{room=a}": 5}),
    ('label_replace(limit{room="a"}, "who", "no", "owner", "z")', {"limit{owner=x,room=a}": 5}),
    ('label_join(limit{room="a"}, "both", "/", "owner", "room", "none")', {"limit{both=x/a/,owner=x,room=a}": 5}),
    ("absent(nothing{a='b', c!='d'})", {"{a=b}": 1}),
    ("absent(temperature)", {}),
    ("absent(sum(nothing))", {"{}": 1}),
    # Order.
    (
        "sort(requests_total)",
        {f"requests_total{WEB500}": 60, f"requests_total{DB200}": 220, f"requests_total{WEB200}": 600},
    ),
    (
        "sort_desc(temperature)",
        {"temperature{room=a}": 11, "temperature{room=b}": 0, "temperature{room=c}": nan},
    ),
    ('sort_by_label(limit, "owner")', {"limit{owner=x,room=a}": 5, "limit{owner=y,room=b}": 5}),
    ('sort_by_label_desc(limit, "owner")', {"limit{owner=y,room=b}": 5, "limit{owner=x,room=a}": 5}),
    # Classic histograms: rank 25 of 50 is three quarters into the bucket (0.1, 0.5] with 20.
    ("histogram_quantile(0.5, latency_bucket)", {"{}": 0.1 + 0.4 * 0.75}),
    ("histogram_quantile(0.1, latency_bucket)", {"{}": 0.05}),
    ("histogram_quantile(0.99, latency_bucket)", {"{}": 1}),
    ("histogram_quantile(-1, latency_bucket)", {"{}": -inf}),
    ('histogram_quantile(0.5, latency_bucket{le!="+Inf"})', {"{}": nan}),
    (
        'histogram_quantiles(latency_bucket, "q", 0.5, 1)',
        {"{q=0.5}": 0.1 + 0.4 * 0.75, "{q=1.0}": 1},
    ),
    ("histogram_fraction(0, 0.5, latency_bucket)", {"{}": 0.6}),
    ("histogram_fraction(0.1, 0.3, latency_bucket)", {"{}": 0.2}),
    ("histogram_count(latency_bucket)", {}),
    # info()
    ("info(up)", {"up{host=h1,instance=i1,job=web,version=7}": 1}),
    ('info(up, {version=~".+"})', {"up{instance=i1,job=web,version=7}": 1}),
    ('info(up, {version="8"})', {}),
    ('info(temperature{room="a"})', {"temperature{room=a}": 11}),
]


def rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return round(float(value), 12) if isinstance(value, int | float) else value


@pytest.mark.parametrize(("query", "expected"), INSTANT, ids=[query for query, _ in INSTANT])
def test_values_at_one_time(engine: Engine, query: str, expected: object) -> None:
    got = table(engine.instant(query, 10 * MINUTE))
    if isinstance(got, dict) and isinstance(expected, dict) and not query.startswith(("sort", "topk")):
        got, expected = dict(sorted(got.items())), dict(sorted(expected.items()))
    assert same(rounded(got), rounded(expected)), got


RANGES: list[tuple[str, dict[str, list[float]]]] = [
    ('temperature{room="a"}', {"temperature{room=a}": [1, 3, 5, 7, 9, 11]}),
    # Look-back fills gaps; a stale marker ends a series at once.
    ('temperature{room="c"} offset 1m', {"temperature{room=c}": [3, 3, 9, 3, 3]}),
    ("ended", {"ended": [1, 3]}),
    ("ended @ end()", {}),
    ('temperature{room="a"} @ start()', {"temperature{room=a}": [1] * 6}),
    ("time()", {"{}": [0, 120, 240, 360, 480, 600]}),
    ("sum(temperature{room!='c'})", {"{}": [21, 19, 17, 15, 13, 11]}),
    ('temperature{room=~"a|b"} > 8', {"temperature{room=a}": [9, 11], "temperature{room=b}": [20, 16, 12]}),
    (
        "topk(1, temperature{room!='c'})",
        {"temperature{room=a}": [9, 11], "temperature{room=b}": [20, 16, 12, 8]},
    ),
    ('resets(requests_total{job="db"}[10m])', {DB200: [0, 0, 1, 1, 1, 1]}),
    ('sum_over_time(temperature{room="a"}[2m])', {"{room=a}": [1, 5, 9, 13, 17, 21]}),
    ('absent(temperature{room="c"} > 3)', {"{}": [1, 1, 1, 1, 1, 1]}),
    ('label_replace(temperature{room="a"}, "room", "z", "", "")', {"temperature{room=z}": [1, 3, 5, 7, 9, 11]}),
    ("nothing or vector(1)", {"{}": [1] * 6}),
    ("range() + step()", {"{}": [720.0] * 6}),
    ("end() - start()", {"{}": [600.0] * 6}),
]


@pytest.mark.parametrize(("query", "expected"), RANGES, ids=[query for query, _ in RANGES])
def test_values_over_a_range(engine: Engine, query: str, expected: dict[str, list[float]]) -> None:
    got = table(engine.range(query, 0, 10 * MINUTE, 2 * MINUTE))
    assert same(got, expected), got


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("temperature + on() limit", "found duplicate series for the match group {} on the right hand-side"),
        ("requests_total + on(job) sum by (job) (requests_total)", "many-to-one matching must be explicit"),
        ("requests_total - on(job) group_left(code) up * 0 or up", "grouping labels must ensure unique matches"),
        ('label_replace(temperature, "room", "x", "", "")', "vector cannot contain metrics with the same labelset"),
        ("topk(NaN, temperature)", "Parameter value is NaN"),
        ("double_exponential_smoothing(temperature[5m], 2, 0.5)", "invalid smoothing factor"),
        ('label_replace(temperature, "a", "", "b", "[")', "invalid regular expression in label_replace()"),
        ('label_join(temperature, "", "", "b")', "invalid destination label name in label_join()"),
    ],
)
def test_what_cannot_be_done_is_said(engine: Engine, query: str, message: str) -> None:
    with pytest.raises(ExecutionError) as error:
        engine.instant(query, 10 * MINUTE)
    assert message in str(error.value)
    assert error.value.kind == "execution"


@pytest.mark.parametrize(
    ("query", "warning", "info"),
    [
        (
            "rate(temperature[5m])",
            "",
            'metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "temperature" (1:6)',
        ),
        ("quantile(7, limit)", "quantile value should be between 0 and 1, got 7 (1:10)", ""),
        ("histogram_quantile(0.5, limit)", 'bucket label "le" is missing or has a malformed value of "" (1:25)', ""),
        ("limit_ratio(2, limit)", "ratio value should be between -1 and 1, got 2, capping to 1 (1:13)", ""),
    ],
)
def test_doubts_are_said_with_their_place(engine: Engine, query: str, warning: str, info: str) -> None:
    result = engine.instant(query, 10 * MINUTE)
    assert result.annotations.warnings == ([f"PromQL warning: {warning}"] if warning else [])
    assert result.annotations.infos == ([f"PromQL info: {info}"] if info else [])


def test_sums_lose_nothing_to_rounding() -> None:
    store = MemoryQuerier()
    for number, value in enumerate([1.0, 1e100, 1.0, -1e100]):
        store.add(f'v{{n="{number}"}}', [value])
    store.add("w", [1.0, 1e100, 1.0, -1e100])
    store.add('huge{n="1"}', [1.5e308])
    store.add('huge{n="2"}', [1.5e308])
    engine = Engine(store)
    assert table(engine.instant("sum(v)", 0)) == {"{}": 2.0}
    assert table(engine.instant("avg(v)", 0)) == {"{}": 0.5}
    assert table(engine.instant("sum_over_time(w[5m])", 3 * MINUTE)) == {"{}": 2.0}
    assert table(engine.instant("avg_over_time(w[5m])", 3 * MINUTE)) == {"{}": 0.5}
    assert table(engine.instant("avg(huge)", 0)) == {"{}": 1.5e308}


def test_every_function_and_aggregation_is_looked_at_here() -> None:
    text = re.sub(r"@ \w+\(\)", "", " ".join(query for query, _ in [*INSTANT, *RANGES]))
    called = set(re.findall(r"\w+(?=\s*(?:by|without)?\s*\()", text))
    of_native_histograms = {"histogram_avg", "histogram_stddev", "histogram_stdvar", "histogram_sum"}
    assert {*AGGREGATIONS, *FUNCTIONS} - called == of_native_histograms


def test_every_function_and_aggregation_says_what_it_does() -> None:
    documented, told = set(), ""
    for path in Path(promql.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
                documented.add(node.name.removeprefix("_"))
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                told += str(node.value.value)
    assert {name for name in {*AGGREGATIONS, *FUNCTIONS} - documented if f"{name}()" not in told} == set()


def test_a_selector_reads_no_more_than_it_needs() -> None:
    store = querier()
    Engine(store).range("rate(requests_total[5m] offset 1m) + on() group_left sum(limit)", 600_000, 900_000, 60_000)
    assert store.selected == [(240_000, 840_000), (300_000, 900_000)]


@pytest.mark.parametrize(
    ("limits", "query", "bound"),
    [
        (Limits(samples=5), "temperature", "samples"),
        (Limits(series=2), "temperature", "series"),
        (Limits(cells=10), "vector(1)", "cells"),
        (Limits(cells=1000), "sum_over_time(vector(1)[10m:1ms])", "cells"),
        (Limits(series=2), 'count_values("v", requests_total)', "series"),
        (Limits(held=100), "temperature + (temperature + (temperature + (temperature + temperature)))", "held"),
        (Limits(held=100), "vector(1 + (1 + (1 + (1 + (1 + (1 + (1 + (1 + (1 + (1 + time()))))))))))", "held"),
        (Limits(held=100), "max_over_time(" * 5 + "temperature" + "[2m:1m])" * 5, "held"),
        (Limits(held=100), "topk(time(), " * 10 + "limit" + ")" * 10, "held"),
        (Limits(characters=50), 'label_join(temperature, "x", "-----------", "room", "room")', "characters"),
        (Limits(characters=50), 'label_replace(temperature, "x", "$1$1$1$1$1$1$1$1$1", "room", "(.*)")', "characters"),
    ],
)
def test_bounds_are_kept_and_named(limits: Limits, query: str, bound: str) -> None:
    with pytest.raises(LimitExceededError) as error:
        Engine(querier(), limits=limits).range(query, 0, 600_000, 60_000)
    assert error.value.limit == bound
    assert str(error.value.allowed) in str(error.value)


def test_what_an_operator_is_done_with_is_held_no_longer() -> None:
    """33 values each: a chain has two at once, however long it is."""
    limits = Limits(held=100)
    for query in ("temperature" + " + temperature" * 50, "abs(" * 50 + "temperature" + ")" * 50):
        assert Engine(querier(), limits=limits).range(query, 0, 600_000, 60_000)


def test_replacing_refuses_a_label_before_it_makes_it() -> None:
    doubled = 'label_replace(temperature, "x", "aaaaaaaaaa", "room", ".*")'
    for _ in range(30):
        doubled = f'label_replace({doubled}, "x", "$1$1", "x", "(.*)")'
    with pytest.raises(LimitExceededError, match="labels of more than 100000 characters"):
        Engine(querier(), limits=Limits(characters=100_000)).instant(doubled, 0)


def test_a_query_ends_when_nobody_waits_or_its_time_is_up() -> None:
    engine = Engine(querier())
    with pytest.raises(QueryCanceledError) as canceled:
        engine.instant("sum(temperature)", 0, canceled=lambda: True)
    assert canceled.value.kind == "canceled"
    with pytest.raises(QueryTimeoutError) as late:
        Engine(querier(), limits=Limits(seconds=-1)).instant("sum(temperature)", 0)
    assert late.value.kind == "timeout"


@pytest.mark.parametrize(
    "function",
    ["rate", "sum_over_time", "stddev_over_time", "max_over_time", "mad_over_time", "deriv", "ts_of_max_over_time"],
)
def test_a_query_ends_within_a_long_window_too(function: str) -> None:
    store = MemoryQuerier()
    store.add("noise_total", [(number * 7919 % 1000) / 7 for number in range(20_000)], step=1000)
    asked = 0

    def canceled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 8

    with pytest.raises(QueryCanceledError):
        Engine(store).range(f"{function}(noise_total[5h])", 0, 20_000_000, 10_000, canceled=canceled)


def test_resets_in_whole_numbers_are_added_at_once() -> None:
    store = MemoryQuerier()
    store.add("whole_total", [5, 1, 4, 2, 3])
    store.add("parts_total", [5.5, 1, 4, 2, 3])
    engine = Engine(store)
    # 3 - 5 + 5 + 4, of which the first sample is at the beginning of the window.
    assert table(engine.instant("increase({__name__=~'whole_total'}[5m])", 4 * MINUTE)) == {"{}": 7.0 * 5 / 4}
    assert table(engine.instant("increase({__name__=~'parts_total'}[5m])", 4 * MINUTE)) == {"{}": 7.0 * 5 / 4}


def test_what_may_be_parsed_can_be_evaluated() -> None:
    engine = Engine(querier())
    assert table(engine.instant("abs(" * 75 + "limit{room='a'}" + ")" * 75, 0)) == {"{owner=x,room=a}": 5.0}
    assert table(engine.instant("limit{room='a'}" + " + 1" * 195, 0)) == {"{owner=x,room=a}": 200.0}
    assert table(engine.instant("-" * 75 + "1 + 1", 0)) == 0.0


def test_a_range_needs_a_step_and_an_instant_vector() -> None:
    engine = Engine(querier())
    for query, step in (("temperature", 0), ("temperature[5m]", 1000), ("'text'", 1000)):
        with pytest.raises(QueryError) as error:
            engine.range(query, 0, 1000, step)
        assert error.value.kind == "bad_data"


def test_ranges_by_themselves_are_the_samples() -> None:
    result = Engine(querier()).instant('temperature{room="c"}[4m]', 4 * MINUTE)
    assert result.type == "matrix"
    assert table(result) == {"temperature{room=c}": [3.0, 3.0]}


def test_info_of_more_series_than_a_regular_expression_can_name() -> None:
    store = MemoryQuerier()
    for number in range(700):
        identity = f'instance="{number}.{"x" * 100}.example.com", job="node"'
        store.add(f"up{{{identity}}}", [1])
        store.add(f'target_info{{{identity}, version="{number}"}}', [1])
    found = Engine(store).instant("info(up)", 0).value
    assert isinstance(found, Vector)
    assert {one.labels["version"] for one in found.samples} == {str(number) for number in range(700)}
