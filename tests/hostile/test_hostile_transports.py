# ruff: noqa: E501 - a hostile request is easier to read in one line
"""What may come over the wire before there is a request: bombs, floods, smuggling, and protocols that are not ours."""

from __future__ import annotations

import gzip
import zlib

import cramjam
import grpc
import pytest
import zstandard
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.component import Signal
from tests.hostile.harness import LIMIT, Gateway, assert_conform, assert_no_leak
from tests.support.http2 import LAST_HEADERS, frame, grpc_call, headers_in
from tests.support.telemetry import logs
from tests.support.waiting import PATIENCE

_JSON = {"content_type": "application/json"}


# -- gRPC ---------------------------------------------------------------------------------------------------------------


def test_grpc_takes_no_bomb(gateway: Gateway) -> None:
    answer = gateway.grpc_send(Signal.LOGS, bytes(4 * LIMIT), compression=grpc.Compression.Gzip)
    assert answer.status == "RESOURCE_EXHAUSTED"
    assert_conform(answer)
    gateway.assert_serves()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "snappy", "identity", "\x7f"])
@pytest.mark.parametrize(
    "message", [b"\xff" * 1000, gzip.compress(bytes(1000))[:-5], b""], ids=["garbage", "cut", "empty"]
)
def test_grpc_refuses_what_it_cannot_decompress(gateway: Gateway, encoding: str, message: bytes) -> None:
    answer = gateway.raw_grpc(grpc_call(encoding, message), LAST_HEADERS)
    trailers = headers_in(answer)
    # INTERNAL for one that is said to be compressed by nothing: gRPC's doc/compression.md
    assert trailers["grpc-status"] == {"\x7f": "12", "identity": "13"}.get(encoding, "3")
    assert_no_leak(trailers["grpc-message"])
    gateway.assert_serves()


def test_grpc_waits_for_a_slow_message_without_keeping_others_waiting(gateway: Gateway) -> None:
    with gateway.connection(gateway.grpc_address) as slow:
        slow.sendall(grpc_call("gzip", b"\x1f\x8b\x08", length=1000))
        for _ in range(20):
            slow.sendall(frame(0, 0, 1, b"\0"))
            gateway.assert_serves()


def test_grpc_takes_no_more_than_its_limit(gateway: Gateway) -> None:
    assert gateway.grpc_send(Signal.LOGS, bytes(LIMIT + 1)).status == "RESOURCE_EXHAUSTED"
    assert gateway.grpc_send(Signal.LOGS, bytes(LIMIT)).status == "INVALID_ARGUMENT"
    gateway.assert_serves()


@pytest.mark.parametrize(
    "method",
    [
        "/opentelemetry.proto.collector.logs.v1.LogsService/Import",
        "/opentelemetry.proto.collector.logs.v2.LogsService/Export",
        "/",
        "/../../etc/passwd",
        "/grpc.reflection.v1.ServerReflection/Info",
        "/" + "a" * 4_000,
    ],
)
def test_grpc_has_no_such_method(gateway: Gateway, method: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        gateway.channel.unary_unary(method)(b"", timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert_no_leak(caught.value.details())


def test_grpc_survives_large_metadata(gateway: Gateway) -> None:
    for size in (4_000, 100_000):
        answer = gateway.grpc_send(Signal.LOGS, logs("x").payload, metadata=[("x-flood", "x" * size)])
        assert answer.status in ("OK", "RESOURCE_EXHAUSTED")
    gateway.assert_serves()


def test_grpc_survives_a_health_check_of_a_long_name(gateway: Gateway) -> None:
    name = b"n" * 100_000
    check = gateway.channel.unary_unary("/grpc.health.v1.Health/Check")
    with pytest.raises(grpc.RpcError) as caught:
        check(b"\x0a\xa0\x8d\x06" + name, timeout=PATIENCE)
    assert_no_leak(caught.value.details())
    gateway.assert_serves()


@pytest.mark.parametrize(
    "payload",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        bytes(1000),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
    ],
)
def test_grpc_survives_what_is_not_grpc(gateway: Gateway, payload: bytes) -> None:
    assert_no_leak(gateway.raw_grpc(payload, seconds=1).decode("latin-1"))
    gateway.assert_serves()


# -- HTTP bodies ---------------------------------------------------------------------------------------------------------

_COMPRESS = {
    "gzip": lambda body: gzip.compress(body, 9),
    "deflate": lambda body: zlib.compress(body, 9),
    "zstd": lambda body: zstandard.ZstdCompressor(level=3).compress(body),
    "snappy": lambda body: bytes(cramjam.snappy.compress_raw(body)),
    "x-snappy-framed": lambda body: bytes(cramjam.snappy.compress(body)),
    "lz4": lambda body: bytes(cramjam.lz4.compress(body)),
}


@pytest.mark.parametrize("encoding", _COMPRESS)
def test_http_takes_no_bomb(gateway: Gateway, encoding: str) -> None:
    bomb = _COMPRESS[encoding](bytes(4 * LIMIT))
    answer = gateway.http_send(Signal.LOGS, bomb, content_encoding=encoding)
    assert answer.status == 413
    assert_conform(answer)
    for body in (_COMPRESS[encoding](bomb), bomb[:1000], b"\xff" * 1000, bomb[4:], b"", bomb[:-5] + b"\0" * 5):
        assert_conform(gateway.http_send(Signal.LOGS, body, content_encoding=encoding))
    gateway.assert_serves()


@pytest.mark.parametrize("encoding", ["identity", *_COMPRESS])
def test_http_waits_for_a_slow_body_without_keeping_others_waiting(gateway: Gateway, encoding: str) -> None:
    body = _COMPRESS.get(encoding, bytes)(logs("slow").payload)
    with gateway.connection(gateway.http_address) as slow:
        slow.sendall(_POST + b"Content-Encoding: %b\r\n" % encoding.encode())
        slow.sendall(b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        for at in range(len(body)):
            slow.sendall(body[at : at + 1])
            if at % 10 == 0:
                gateway.assert_serves()
        assert assert_http(slow.recv(65536)) == [200]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"\\ud800"',
        b'{"resourceLogs":[{"schemaUrl":"\\ud800"}]}',
        b'{"resourceLogs":[{"schemaUrl":"\\udc00\\ud800"}]}',
        b'{"resourceLogs":[{"schemaUrl":"\xff"}]}',
        b'{"resourceLogs":[{"schemaUrl":"\\u0000"}]}',
        b'\xef\xbb\xbf{"resourceLogs":[]}',
        b'{"resourceLogs":[],"resourceLogs":[{}]}',
        b'{"resourceLogs":' + b"[" * 200_000,
        b'{"resourceLogs":' + b'{"a":' * 200_000,
        b'{"x":' + b"9" * 100_000 + b"}",
        b'{"x":1e' + b"9" * 100_000 + b"}",
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"' + b"9" * 100_000 + b'"}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":1e400}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":-1}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":99999999999}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"traceId":"zz","spanId":"0"}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"bytesValue":"="}}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"doubleValue":"' + b"1" * 100_000 + b'"}}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"a\\u0000b"}}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":' + b'{"arrayValue":{"values":[' * 5_000 + b"]}}" * 5_000 + b"}]}]}]}",
    ],
)  # fmt: skip
def test_http_takes_no_bad_json(gateway: Gateway, body: bytes) -> None:
    assert_conform(gateway.http_send(Signal.LOGS, body, **_JSON))
    gateway.assert_serves()


@pytest.mark.parametrize(
    "content_type",
    ["", ";", "application/json; charset=utf-16", "application/x-protobuf" + ";" * 10_000, "a" * 30_000, "application/json\xff",
     "APPLICATION/JSON", "multipart/form-data", "multipart/form-data; boundary=" + "b" * 5_000, "application/x-www-form-urlencoded"],
)  # fmt: skip
def test_http_survives_absurd_content_types(gateway: Gateway, content_type: str) -> None:
    request = (
        b"POST /v1/logs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\nContent-Type: "
        + content_type.encode("latin-1")
    )
    assert_http(gateway.raw_http(request + b"\r\n\r\n{}"))
    gateway.assert_serves()


def test_http_survives_absurd_encodings(gateway: Gateway) -> None:
    for encoding in ("gzip, gzip", "identity;q=0", "br", "x" * 20_000, "GZIP", "aes128gcm", "compress"):
        assert_conform(gateway.http_send(Signal.LOGS, b"{}", content_encoding=encoding))
    gateway.assert_serves()


# -- HTTP itself ----------------------------------------------------------------------------------------------------------

_POST = b"POST /v1/logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n"


def assert_http(answer: bytes) -> list[int]:
    """Whatever came is no 5xx and tells nothing. Return the statuses."""
    text = answer.decode("latin-1")
    assert_no_leak(text)
    statuses = [int(part[:3]) for part in text.split("HTTP/1.1 ")[1:]]
    assert all(100 <= status < 500 for status in statuses), text[:500]
    return statuses


@pytest.mark.parametrize(
    "request_",
    [
        _POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        _POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        _POST + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
        _POST + b"Content-Length: +0\r\n\r\n",
        _POST + b"Content-Length: -1\r\n\r\n",
        _POST + b"Content-Length: 0x10\r\n\r\n",
        _POST + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\n",
        _POST + b"Content-Length: 1_0\r\n\r\n",
        _POST + b"Transfer-Encoding: xchunked\r\n\r\n",
        _POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        _POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        _POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        _POST + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
        _POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        _POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"e" * 100_000 + b"\r\nx\r\n0\r\n\r\n",
        _POST + b" folded: x\r\nContent-Length: 0\r\n\r\n",
        _POST + b"\x00: x\r\nContent-Length: 0\r\n\r\n",
        _POST + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
        _POST + b"X: a\nContent-Length: 0\r\n\r\n",
        _POST.replace(b"Host: localhost\r\n", b"") + b"Content-Length: 0\r\n\r\n",
        _POST.replace(b"Host: localhost\r\n", b"Host: \xff\xfe@/\r\n") + b"Content-Length: 0\r\n\r\n",
        _POST.replace(b"/v1/logs", b"/v1/../v1/logs") + b"Content-Length: 0\r\n\r\n",
        _POST.replace(b"/v1/logs", b"/v1/%2e%2e/%2e%2e/etc/passwd") + b"Content-Length: 0\r\n\r\n",
        _POST.replace(b"/v1/logs", b"/\xff\xfe") + b"Content-Length: 0\r\n\r\n",
        _POST.replace(b"/v1/logs", b"/%ff%00%c0%80") + b"Content-Length: 0\r\n\r\n",
        _POST.replace(b"/v1/logs", b"http://elsewhere/v1/logs") + b"Content-Length: 0\r\n\r\n",
        _POST.replace(b"/v1/logs", b"//v1/logs?" + b"q" * 60_000) + b"Content-Length: 0\r\n\r\n",
        _POST.replace(b"/v1/logs", b"*") + b"Content-Length: 0\r\n\r\n",
        _POST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Content-Length: 0\r\n\r\n",
        _POST.replace(b"HTTP/1.1", b"HTTP/9.9") + b"Content-Length: 0\r\n\r\n",
        b"GET /v1/logs\r\n",
        b"GET /v1/logs HTTP/0.9\r\n\r\n",
        b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere:443\r\n\r\n",
        b"TRACE /v1/logs HTTP/1.1\r\nHost: localhost\r\nCookie: secret\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"OPTIONS /v1/logs HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil\r\nAccess-Control-Request-Method: POST\r\n\r\n",
        b"HEAD /v1/logs HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"BREW /v1/logs HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/logs HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n\r\n",
        b"POST /v1/logs HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAA\r\nContent-Length: 0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 10_000,
        b"\r\n" * 10_000,
        _POST + b"".join(b"X-%d: y\r\n" % n for n in range(5_000)) + b"Content-Length: 0\r\n\r\n",
        _POST + b"X: " + b"y" * 2**20 + b"\r\nContent-Length: 0\r\n\r\n",
        _POST + b"Expect: 100-continue\r\nContent-Length: 10\r\n\r\n",
        _POST + b"Content-Length: 100\r\n\r\nshort",
    ],
)  # fmt: skip
def test_http_survives(gateway: Gateway, request_: bytes) -> None:
    assert_http(gateway.raw_http(request_))
    gateway.assert_serves()


@pytest.mark.parametrize(
    "conflict",
    [b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"Content-Length: 5\r\nContent-Length: 50\r\n"],
)
def test_http_reads_no_request_out_of_a_body(gateway: Gateway, conflict: bytes) -> None:
    """A proxy in front that goes by the other length must not be made to pass a second request unseen."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
    statuses = assert_http(gateway.raw_http(_POST + conflict + b"\r\n0\r\n\r\n" + smuggled))
    assert 404 not in statuses, "the second request was read although the length of the first is in doubt"


def test_http_answers_a_pipeline_of_requests_in_order(gateway: Gateway) -> None:
    good = logs("pipelined").payload
    one = _POST + b"Content-Length: %d\r\n\r\n" % len(good) + good
    bad = _POST + b"Content-Length: 1\r\n\r\n\xff"
    last = _POST + b"Connection: close\r\nContent-Length: 0\r\n\r\n"
    statuses = assert_http(gateway.raw_http((one + bad) * 50 + last, half_close=False))
    assert statuses == [200, 400] * 50 + [200]


@hypothesis_settings(max_examples=60)
@given(data=st.binary(max_size=300), encoding=st.sampled_from(["identity", *_COMPRESS]), signal=st.sampled_from(Signal))
def test_http_survives_any_bytes(gateway: Gateway, data: bytes, encoding: str, signal: Signal) -> None:
    for content_type in ("application/json", "application/x-protobuf"):
        assert_conform(gateway.http_send(signal, data, content_type=content_type, content_encoding=encoding))


def test_nested_values_pass_as_json_as_deep_as_protobuf_takes_them(gateway: Gateway) -> None:
    for depth in (10, 40, 60, 1_000):
        body = b'{"arrayValue":{"values":[' * depth + b'{"intValue":"1"}' + b"]}}" * depth
        request = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":' + body + b"}]}]}]}"
        answer = gateway.http_send(Signal.LOGS, request, **_JSON)
        assert answer.status == (200 if depth <= 40 else 400), (depth, answer)
