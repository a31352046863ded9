"""What is PromQL and what is not, and where it is not. Values follow from the grammar of the documentation."""

from __future__ import annotations

import math

import pytest

from gateway.query.errors import BadQueryError
from gateway.query.promql import nodes
from gateway.query.promql.parser import parse, parse_selector
from gateway.query.series import Matcher


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1_000.5", 1000.5),
        ("0x1F", 31),
        ("017", 15),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("5.", 5),
        ("-Inf", -math.inf),
        ("1h30m", 5400),
        ("-250ms", -0.25),
    ],
)
def test_numbers_and_durations_are_scalars(text: str, value: float) -> None:
    node = parse(text)
    assert isinstance(node, nodes.Number)
    assert node.value == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"a\n\"\x41\101\u00e9"', 'a\n"AAé'),
        (r"'it\'s'", "it's"),
        (r"`raw \n`", r"raw \n"),
    ],
)
def test_strings_have_the_escapes_of_go(text: str, value: str) -> None:
    node = parse(text)
    assert isinstance(node, nodes.Text)
    assert node.value == value


def test_selectors_name_metrics_before_and_in_braces() -> None:
    assert parse_selector('up{job=~"a|b", x!="",}') == (
        Matcher("job", "=~", "a|b"),
        Matcher("x", "!=", ""),
        Matcher("__name__", "=", "up"),
    )
    assert parse_selector('{"system.cpu.time", "service.name"!~"x.*"}') == (
        Matcher("__name__", "=", "system.cpu.time"),
        Matcher("service.name", "!~", "x.*"),
    )
    assert parse_selector("sum") == (Matcher("__name__", "=", "sum"),)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("a[1m + 30s * 2]", 120_000),
        ("a[(1m + 30s) / 2]", 45_000),
        ("a[2 ^ 3 ^ 1]", 8_000),
        ("a[-(1m - 2m)]", 60_000),
        ("a[7 % 4]", 3_000),
        ("a[step() * 4]", 60_000),
        ("a[RANGE() / 2]", 1_800_000),
        ("a[max_of(step(), 1m)]", 60_000),
        ("a[min_of(step(), 1m)]", 15_000),
    ],
)
def test_durations_may_be_worked_out(text: str, length: int) -> None:
    node = parse(text, 15_000, 3_600_000)
    assert isinstance(node, nodes.RangeSelector)
    assert node.range == length
    shifted = parse(f"a offset -({text[2:-1]})", 15_000, 3_600_000)
    assert isinstance(shifted, nodes.Selector)
    assert shifted.offset == -length


def test_modifiers_stand_behind_what_they_modify() -> None:
    node = parse("rate(a[5m] @ -1.5 offset -1h)")
    assert isinstance(node, nodes.Call)
    (selector,) = node.args
    assert isinstance(selector, nodes.RangeSelector)
    assert selector.range == 300_000
    assert selector.selector.offset == -3_600_000
    assert selector.selector.time == nodes.Time(-1500)
    subquery = parse("(a)[1h:] @ end()")
    assert isinstance(subquery, nodes.Subquery)
    assert (subquery.range, subquery.step, subquery.time) == (3_600_000, None, nodes.Time("end"))


def shape(node: nodes.Node) -> str:
    match node:
        case nodes.Binary(operator=operator, left=left, right=right):
            return f"({shape(left)}{operator}{shape(right)})"
        case nodes.Unary(operator=operator, expr=inner):
            return f"{operator}{shape(inner)}"
        case nodes.Selector(name=name):
            return name
        case nodes.Number(value=value):
            return f"{value:g}"
        case _:
            raise AssertionError(node)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b * c ^ d ^ e", "(a+(b*(c^(d^e))))"),
        ("-a ^ 2", "-(a^2)"),
        ("-a * b", "(-a*b)"),
        ("a - b - c", "((a-b)-c)"),
        ("a or b and c unless d", "(aor((bandc)unlessd))"),
        ("a > b + 1 == c", "((a>(b+1))==c)"),
        ("a </ 1 >/ b + 1", "((a</1)>/(b+1))"),
        ("a atan2 b % c", "((aatan2b)%c)"),
    ],
)
def test_operators_bind_by_precedence(text: str, expected: str) -> None:
    assert shape(parse(text)) == expected


def test_vector_matching_is_read_whole() -> None:
    node = parse('a / on(x, "y.z") group_left(w) fill_right(-2) b')
    assert isinstance(node, nodes.Binary)
    assert node.matching == nodes.Matching(True, ("x", "y.z"), "left", ("w",), None, -2)
    node = parse("a >= bool ignoring() b")
    assert isinstance(node, nodes.Binary)
    assert node.bool_modifier
    assert node.matching == nodes.Matching()


def test_aggregations_group_before_and_behind() -> None:
    before, behind = parse("topk by (a, by) (3, m)"), parse("topk(3, m) by (a, by,)")
    assert isinstance(before, nodes.Aggregation)
    assert isinstance(behind, nodes.Aggregation)
    assert before.labels == behind.labels == ("a", "by")


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", "1:1", "no expression found in input"),
        ("foo bar", "1:5", 'unexpected identifier "bar"'),
        ("foo{", "1:5", "unexpected end of input in label matching"),
        ("foo\n  {a==}", "2:6", "expected string"),
        ("rate(foo)", "1:6", 'expected type range vector in call to function "rate", got instant vector'),
        ("abs(foo[1m])", "1:5", "expected type instant vector"),
        ("nonsense(foo)", "1:1", 'unknown function with name "nonsense"'),
        ("round(a, 1, 2)", "1:1", "expected at most 2 argument(s)"),
        ("sum(1)", "1:5", "expected type instant vector in aggregation expression, got scalar"),
        ("topk(a, b)", "1:6", "expected type scalar in aggregation parameter"),
        ("{}", "1:1", "at least one non-empty matcher"),
        ('{a=~".*"}', "1:1", "at least one non-empty matcher"),
        ('a{b=~"["}', "1:3", "error parsing regexp: missing ]: ["),
        ('a{__name__="b"}', "1:1", "metric name must not be set twice"),
        ("a[0s]", "1:3", "duration must be greater than 0"),
        ("a[1m1h]", "1:3", "not a valid duration string"),
        ("a[5m][5m]", "1:6", "ranges only allowed for vector selectors"),
        ("a offset 1m offset 1m", "1:1", "offset may not be set multiple times"),
        ("a @ 1 @ 2", "1:1", "@ <timestamp> may not be set multiple times"),
        ("1 > 2", "1:3", "comparisons between scalars must use BOOL modifier"),
        ("a + bool b", "1:3", "bool modifier can only be used on comparison operators"),
        ("a and 1", "1:1", 'set operator "and" not allowed in binary scalar expression'),
        ("a and on(x) group_left b", "1:1", 'no grouping allowed for "and" operation'),
        ("a + on(x) group_left(x) b", "1:3", "must not occur in ON and GROUP clause at once"),
        ("a + on(x) 1", "1:1", "vector matching only allowed between instant vectors"),
        ("a[1m / 0]", "1:6", "division by zero"),
        ("a[1m % 0]", "1:6", "modulo by zero"),
        ("a[1m - 2m]", "1:3", "duration must be greater than 0"),
        ("a[10y ^ 9]", "1:7", "duration out of range"),
        ("a[1m == 2m]", "1:6", "in subquery or range"),
        ("1.2.3", "1:1", "bad number or duration syntax"),
        ('"abc', "1:1", "unterminated quoted string"),
        ('"\\q"', "1:1", "error unquoting string"),
        ("sum(a,)", "1:6", "trailing commas not allowed"),
        ("info(a, b)", "1:9", "expected label selectors only"),
        ("info(sum({}))", "1:10", "at least one non-empty matcher"),
        ("a $ b", "1:3", "unexpected character"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, place: str, message: str) -> None:
    with pytest.raises(BadQueryError) as error:
        parse(text)
    assert str(error.value).startswith(f"{place}: parse error: ")
    assert message in str(error.value)
    assert error.value.position is not None


@pytest.mark.parametrize("opening", ["(", "-", "abs(", "1^", "1+", "sum by (a) ("])
def test_nesting_is_bounded_and_ends_no_process(opening: str) -> None:
    with pytest.raises(BadQueryError, match="levels"):
        parse(opening * 5000 + "1")
    with pytest.raises(BadQueryError, match="characters"):
        parse(opening * 150_000)
