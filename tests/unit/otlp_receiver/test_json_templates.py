"""JSON that repeats but for its numbers: whatever these are, it becomes what it becomes without templates."""

from __future__ import annotations

import itertools
import json
import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.component import MalformedPayloadError, Signal, TooLargeError
from receivers.otlp import json_templates, otlp_json
from receivers.otlp.json_templates import JsonTemplates
from receivers.otlp.otlp_json import to_protobuf
from receivers.otlp.quick_json import QuickJson

TIME, START = 1_700_000_000_000_000_001, 1_690_000_000_000_000_002


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(json_templates, "_SMALLEST", 1)
    otlp_json._templates.cache_clear()
    yield
    otlp_json._templates.cache_clear()


def point(number: int, value: Any, **others: Any) -> dict[str, Any]:
    attributes = [{"key": "url", "value": {"stringValue": f"http://host-{number}:{number}/a,b"}}]
    return {"attributes": attributes, "startTimeUnixNano": str(START), "timeUnixNano": str(TIME)} | value | others


def document(*points: dict[str, Any], **others: Any) -> bytes:
    metrics = [{"name": "m", "gauge": {"dataPoints": list(points)}}] + ([others] if others else [])
    resource = {"attributes": [{"key": "host.name", "value": {"stringValue": "nas"}}]}
    said = {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"scope": {"name": "s"}, "metrics": metrics}]}]}
    return json.dumps(said, separators=(",", ":")).encode()


def known() -> JsonTemplates:
    return otlp_json._templates(False)


def without_templates(body: bytes) -> Any:
    """What becomes of a request that is walked through: the bytes, or the error."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(JsonTemplates, "find", lambda *_: None)
        patched.setattr(JsonTemplates, "note", lambda *_: None)
        patched.setattr(QuickJson, "transcode", lambda *_: None)
        return transcoded(body)


def transcoded(body: bytes) -> Any:
    try:
        return to_protobuf(Signal.METRICS, body)
    except (MalformedPayloadError, TooLargeError) as error:
        return type(error), str(error)


def learned(body: bytes) -> bytes:
    """Have a request become a template."""
    before = len(known()._order)
    for _ in range(3):
        to_protobuf(Signal.METRICS, body)
    assert len(known()._order) == before + 1
    return body


USUAL = (
    point(1, {"asDouble": 1.5}),
    point(2, {"asInt": "7"}),
    point(3, {"asInt": 7}),
    {"timeUnixNano": TIME, "asDouble": -2e-7, "attributes": []},
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"asDouble":1.5', b'"asDouble":%s' % text)
        for text in (b"0.0", b"-0.0", b"3", b"-17", b"1e300", b"-2.5E-9", b"5e-324", b"123456789012345678901234567890",
                     b"0.1", b"1.7976931348623157e308")
    ]
    + [
        (b'"asInt":"7"', b'"asInt":"%s"' % text)
        for text in (b"0", b"-1", b"9223372036854775807", b"-9223372036854775808", b"9007199254740993", b"-0")
    ]
    + [
        (b'"asInt":7', b'"asInt":%s' % text)
        for text in (b"0", b"-1", b"9223372036854775807", b"-9223372036854775808", b"-0")
    ]
    + [(str(TIME).encode(), b"1000000000000000000"), (str(START).encode(), b"9999999999999999999")],
)  # fmt: skip
def test_a_request_that_differs_in_numbers_is_read_by_the_template(
    old: bytes, new: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = learned(document(*USUAL))
    changed = body.replace(old, new)
    assert changed != body
    expected = without_templates(changed)
    monkeypatch.setattr(QuickJson, "transcode", None)
    assert transcoded(changed) == expected
    assert isinstance(expected, otlp_json.Transcoded)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"asDouble":1.5', b'"asDouble":%s' % text)
        for text in (b'"NaN"', b'"1.5"', b"null", b"1e400", b"01", b"+1", b"1.", b".5", b"", b"-", b"1,2", b"[1]",
                     b"1}", b"1,\"x\":2", b"true", b"{}", b"1.5,\"flags\":1", b" 1.5", b"1.5 ")
    ]
    + [
        (b'"asInt":"7"', b'"asInt":"%s"' % text)
        for text in (b"", b"-", b"007", b" 7", b"7 ", b"7.0", b"1e3", b"9223372036854775808", b"99999999999999999999",
                     b"-9223372036854775809", b"7,7", b"--7", b"\\u0037", b"0x7", b"7\",\"asDouble\":\"8", b"\xd9\xa7")
    ]
    + [(b'"asInt":7', b'"asInt":%s' % text) for text in (b"007", b"7.0", b"7.5", b"1e2", b"null", b'"7"', b"")]
    + [
        (str(TIME).encode(), text)
        for text in (b"0000000000000000000", b"0000000000000000001", b"170000000000000000", b"17000000000000000001",
                     b"99999999999999999999", b"170000000000000000x", b"-70000000000000001", b"1.70000000000000000")
    ]
    + [
        (b"http://host-1:1/a,b", b"http://host-1:2/a,b"),
        (b'"key":"url"', b'"key":"url":'),
        (b'"name":"m"', b'"name":"n"'),
        (b'"timeUnixNano":"', b'"timeUnixNano": "'),
        (b'"timeUnixNano"', b'"time_unix_nano"'),
        (b'"nas"', b'"\xff"'),
        (b'"gauge"', b'"sum"'),
        (b"}]}]}]}", b"}]}]}"),
        (b"}]}]}]}", b"}]}]}]} "),
        (b"}]}]}]}", b"}]}]}]}x"),
    ],
)  # fmt: skip
def test_one_that_differs_in_more_becomes_what_it_does_without_templates(old: bytes, new: bytes) -> None:
    body = learned(document(*USUAL))
    for changed in (body.replace(old, new), body.replace(old, new, 1)):
        assert changed != body
        assert transcoded(changed) == without_templates(changed)


def test_numbers_in_text_are_text() -> None:
    """Here of an attribute whose value looks like a point, and of one that holds the time of the points."""
    says = [{"key": key, "value": {"stringValue": said}} for key, said in
            (("a", '{"timeUnixNano":"1700000000000000001","asDouble":1.5}'), ("timeUnixNano", str(TIME)))]  # fmt: skip
    body = learned(document(point(1, {"asDouble": 1.5}, attributes=says)))
    later = body.replace(f'"timeUnixNano":"{TIME}"'.encode(), f'"timeUnixNano":"{TIME + 9}"'.encode())
    other = body.replace(str(TIME).encode(), str(TIME + 9).encode())
    assert later != body
    assert other not in (body, later)
    for changed in (later, other):
        assert transcoded(changed) == without_templates(changed)


def test_of_a_key_that_is_given_twice_the_last_counts() -> None:
    twice = document(*USUAL).replace(b'"asDouble":1.5', b'"asDouble":4.5,"asDouble":1.5')
    for value in (b"4.5", b"5.5", b"6.5", b"7.5"):
        body = twice.replace(b"4.5", value)
        assert transcoded(body) == without_templates(body)


@pytest.mark.parametrize(
    "data",
    [
        {"histogram": {"dataPoints": [{"timeUnixNano": str(TIME), "count": "3", "sum": 7.5, "bucketCounts": ["1", "2"],
                                       "explicitBounds": [1.0]}], "aggregationTemporality": 2}},
        {"sum": {"dataPoints": [point(9, {"asInt": "3"}, exemplars=[{"timeUnixNano": str(TIME + 5), "asDouble": 2.5}])],
                 "aggregationTemporality": 2, "isMonotonic": True}},
        {"summary": {"dataPoints": [{"timeUnixNano": str(TIME), "count": "3", "sum": 7.5}]}},
        {"gauge": {"dataPoints": [point(9, {}, flags=1)]}},
    ],
)  # fmt: skip
def test_other_points_among_them_come_out_the_same(data: dict[str, Any]) -> None:
    body = document(*USUAL, name="other", **data)
    for n in range(6):
        changed = body.replace(str(TIME).encode(), str(TIME + 10 * n).encode()).replace(
            b":1.5", f":{n + 0.25}".encode()
        )
        assert transcoded(changed) == without_templates(changed)
    assert len(known()._order) == 1


@st.composite
def written(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A text with blanks for numbers, as some encoder writes it, and which number is in each."""
    space, quote = draw(st.sampled_from(["", " ", "\n  "])), draw(st.sampled_from(['"', ""]))
    metrics, kinds = [], []
    for number in range(draw(st.integers(1, 3))):
        points = []
        for _ in range(draw(st.integers(0, 4))):
            fields = [(f'"attributes":{space}[]', ""), (f'"timeUnixNano":{space}{quote}@{quote}', "time")]
            if draw(st.booleans()):
                fields.append((f'"startTimeUnixNano":{space}{quote}@{quote}', "time"))
            kind = draw(st.sampled_from(["double", "text", "int", ""]))
            if kind:
                key = "asDouble" if kind == "double" else "asInt"
                at = '"@"' if kind == "text" else "@"
                fields.append((f'"{key}":{space}{at}', kind))
            if draw(st.booleans()):
                fields.append(('"flags":1', ""))
            fields = draw(st.permutations(fields))
            kinds += [kind for _, kind in fields if kind]
            points.append("{" + f",{space}".join(text for text, _ in fields) + "}")
        data = draw(st.sampled_from(["gauge", "sum"]))
        metrics.append(f'{{"name":"m{number}","{data}":{{"dataPoints":[{",".join(points)}]}}}}')
    return f'{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{",".join(metrics)}]}}]}}]}}', kinds


_NUMBERS = {
    "time": st.integers(10**18, 10**19 - 1).map(str),
    "double": st.floats(allow_nan=False, allow_infinity=False).map(repr) | st.integers(-(2**70), 2**70).map(str),
    "text": st.integers(-(2**63), 2**63 - 1).map(str),
    "int": st.integers(-(2**63), 2**63 - 1).map(str),
}


@settings(max_examples=150, deadline=None)
@given(written(), st.data())
def test_whatever_is_written_comes_out_as_without_templates(shape: tuple[str, list[str]], data: st.DataObject) -> None:
    otlp_json._templates.cache_clear()
    text, kinds = shape
    for turn in range(5):
        numbers = [data.draw(_NUMBERS[kind]) for kind in kinds]
        body = "".join(itertools.chain(*itertools.zip_longest(text.split("@"), numbers, fillvalue=""))).encode()
        assert transcoded(body) == without_templates(body)
        if turn == 4 and kinds:
            assert len(known()._order) == 1
            assert known().find(body) is not None


def test_bytes_that_are_changed_at_random_come_out_as_without_templates() -> None:
    body = learned(document(*USUAL, *USUAL))
    dice = random.Random(4)
    taken = b'0123456789-+.eE,:"{}[] \\ax\x00\xff'
    for _ in range(3000):
        changed = bytearray(body)
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(changed))
            some = bytes(dice.choices(taken, k=dice.randint(0, 2)))
            changed[at : at + dice.randint(0, 2)] = some
        assert transcoded(bytes(changed)) == without_templates(bytes(changed)), bytes(changed)


def test_a_value_that_is_not_a_number_each_time_is_no_template() -> None:
    body = document(point(1, {"asDouble": "NaN"}))
    for _ in range(5):
        assert transcoded(body) == without_templates(body)
    assert known().find(body.replace(b"NaN", b"Infinity")) is None


def collection(series: int, turn: int, name: str = "m") -> bytes:
    points = [point(n, {"asDouble": n + turn / 4}, timeUnixNano=str(TIME + turn)) for n in range(series)]
    return document(*points, name=name, gauge={"dataPoints": []})


def test_templates_in_use_are_not_given_up_for_others_and_those_that_are_not_are() -> None:
    size = len(collection(20, 0))
    templates = JsonTemplates(most=8 * size)
    quick = otlp_json._quick(False)

    def offer(body: bytes) -> bool:
        if templates.find(body) is not None:
            return True
        payload = to_protobuf(Signal.METRICS, body).payload
        templates.note(body, payload, lambda tried: otlp_json._half_as_much(quick, tried))
        assert templates._size <= 8 * size
        return False

    for turn in range(12):
        found = [offer(collection(20 + stream, turn)) for stream in range(12)]
    assert 0 < sum(found) < 12
    assert found == [offer(collection(20 + stream, 13)) for stream in range(12)]
    for turn in range(400):
        last = [offer(collection(40 + stream, turn)) for stream in range(2)]
    assert any(last)


def test_texts_of_as_many_colons_are_told_apart_and_bounded() -> None:
    for name in "abcdefghijkl":
        for turn in range(4):
            body = collection(3, turn, name)
            assert transcoded(body) == without_templates(body)
    assert 1 < len(known()._order) <= json_templates._MOST_ALIKE
    for count in range(1100):
        known().note(b":" * count + b"{}", b"", lambda _: None)
    assert len(known()._missed) <= json_templates._MOST_MISSED


def test_one_that_may_hold_too_much_for_its_size_fits_no_template() -> None:
    """A template that was learned from long numbers is no way around the bound for those with short ones."""
    short = document(*({"asDouble": 1} for _ in range(40)))
    long = learned(short.replace(b'"asDouble":1', b'"asDouble":1.' + b"5" * 99))
    assert known().find(short) is None
    assert known().find(long.replace(b"5" * 99, b"0" * 25)) is not None
    otlp_json._templates.cache_clear()
    weight = otlp_json.PART * (short.count(b"{") + short.count(b"["))
    with pytest.MonkeyPatch.context() as patched:
        # What may be held is for each byte enough for the long ones, and not for the short ones.
        patched.setattr(otlp_json, "most_weight", lambda size: size * weight // (len(long) - 1))
        for _ in range(4):
            assert isinstance(transcoded(long), otlp_json.Transcoded)
            assert transcoded(short)[0] is TooLargeError
        assert not known()._order


def test_stand_ins_cannot_be_taken_for_one_another() -> None:
    most = json_templates._LARGEST // 10
    for base, text in json_templates._STAND_INS:
        assert base + most < 2**64
        for number in (base, base + most):
            said = text(number)
            same = struct.unpack("<Q", struct.pack("<d", float(said)))[0] if b"e" in said else int(said)
            assert same == number
    spans = sorted((base, base + most) for base, _ in json_templates._STAND_INS)
    assert all(end < begin for (_, end), (begin, _) in itertools.pairwise(spans))
