"""Header blocks as other implementations write and read them, and what no client may write."""

from __future__ import annotations

import pytest
from hpack import Decoder as OtherDecoder
from hpack import Encoder as OtherEncoder
from hpack import HPACKError
from hypothesis import given
from hypothesis import strategies as st

from receivers.otlp.http2.flood_guard import AttackError
from receivers.otlp.http2.frames import ErrorCodes, ViolationError
from receivers.otlp.http2.header_blocks import NO_TABLE, Decoder, encode
from receivers.otlp.http2.request_head import Heads, check_trailers
from receivers.otlp.http2.stream import Headers

FIELDS = st.tuples(
    st.sampled_from([b":method", b":path", b"te", b"grpc-timeout", b"x-long-name-of-a-header"]),
    st.one_of(st.sampled_from([b"POST", b"/", b"trailers"]), st.binary(max_size=300)),
)
LISTS = st.lists(FIELDS, max_size=6)
REQUEST = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/x"),
    (b":authority", b"hub"),
    (b"te", b"trailers"),
)


@given(st.lists(st.tuples(LISTS, st.booleans(), st.sampled_from([None, 0, 100, 4096])), max_size=8))
def test_what_another_implementation_writes_is_read(
    requests: list[tuple[list[tuple[bytes, bytes]], bool, int]],
) -> None:
    encoder, decoder = OtherEncoder(), Decoder()
    for headers, coded, size in requests:
        if size is not None:
            encoder.header_table_size = size
        assert decoder.decode(encoder.encode(headers, huffman=coded)) == tuple(headers)
        # The same again names entries of the table, and the third time the block is known.
        blocks = [encoder.encode(headers, huffman=coded) for _ in range(3)]
        assert [decoder.decode(block) for block in blocks] == [tuple(headers)] * 3


@given(st.lists(st.binary(max_size=30), max_size=6))
def test_what_is_no_header_block_is_refused_as_elsewhere(blocks: list[bytes]) -> None:
    ours, other = Decoder(), OtherDecoder()
    for block in blocks:
        try:
            expected = tuple((bytes(name), bytes(value)) for name, value in other.decode(block, raw=True))
        except (HPACKError, IndexError):
            with pytest.raises(ViolationError):
                ours.decode(block)
            return
        assert ours.decode(block) == expected


@given(st.lists(FIELDS, max_size=6))
def test_another_implementation_reads_what_is_written(headers: list[tuple[bytes, bytes]]) -> None:
    read = OtherDecoder().decode(NO_TABLE + encode(tuple(headers)), raw=True)
    assert [(bytes(name), bytes(value)) for name, value in read] == headers


def test_a_block_means_what_the_table_says_now() -> None:
    """The same bytes are other headers once the table has changed."""
    decoder = Decoder()
    decoder.decode(b"\x40\1a\1b")
    assert decoder.decode(b"\xbe") == decoder.decode(b"\xbe") == ((b"a", b"b"),)
    decoder.decode(b"\x40\1c\1d")
    assert decoder.decode(b"\xbe") == ((b"c", b"d"),)
    with pytest.raises(ViolationError):
        Decoder().decode(b"\xbe")  # what is remembered of one connection holds for no other
    decoder.decode(b"\x20\x3f\xe1\x1f")  # emptied, and as large as before
    with pytest.raises(ViolationError):
        decoder.decode(b"\xbe")


def test_a_block_that_stands_for_very_much_is_an_attack() -> None:
    entry = b"\x40\1a\x7f\xa1\x1e" + b"x" * 4_000
    with pytest.raises(AttackError, match="bytes of headers"):
        Decoder().decode(entry + b"\xbe" * 100)
    with pytest.raises(AttackError, match="1024 headers"):
        Decoder().decode(b"\x82" * 1025)
    assert len(Decoder().decode(b"\x82" * 1024)) == 1024


def without(name: bytes) -> Headers:
    return tuple(field for field in REQUEST if field[0] != name)


@pytest.mark.parametrize(
    "headers",
    [
        without(b":method"),
        without(b":scheme"),
        without(b":path"),
        without(b":authority"),
        (*without(b":path"), (b":path", b"/x")),  # behind a header that is none of the protocol's
        ((b":path", b""), *without(b":path")),
        (*REQUEST[:4], (b":path", b"/y")),
        (*REQUEST[:4], (b":status", b"200")),
        (*REQUEST[:4], (b":protocol", b"websocket")),
        (*REQUEST, (b"Upper", b"case")),
        (*REQUEST, (b"", b"nameless")),
        (*REQUEST, (b"a b", b"c")),
        (*REQUEST, (b"a:b", b"c")),
        (*REQUEST, (b"a", b"b\r\nc: d")),
        (*REQUEST, (b"a", b" b")),
        (*REQUEST, (b"a", b"b\t")),
        (*REQUEST, (b"a", b"\0")),
        (*without(b"te"), (b"te", b"gzip")),
        (*REQUEST, (b"connection", b"close")),
        (*REQUEST, (b"transfer-encoding", b"chunked")),
        (*REQUEST, (b"host", b"another")),
        (*REQUEST, (b"host", b"hub"), (b"host", b"hub")),
        (*REQUEST, (b"content-length", b"1"), (b"content-length", b"2")),
        (*REQUEST, (b"content-length", b"+1")),
        ((b":method", b"CONNECT"), *without(b":method")),
        (*REQUEST, (b"grpc-timeout", b"1S\n")),
    ],
)
def test_headers_that_no_request_may_have(headers: Headers) -> None:
    with pytest.raises(ViolationError) as caught:
        Heads({b"grpc-timeout"}).read(headers)
    assert caught.value.code is ErrorCodes.PROTOCOL_ERROR


@pytest.mark.parametrize("trailers", [((b":path", b"/x"),), ((b"Upper", b"case"),), ((b"te", b"gzip"),)])
def test_headers_that_may_not_end_a_request(trailers: Headers) -> None:
    with pytest.raises(ViolationError):
        check_trailers(trailers)


@pytest.mark.parametrize("more", [(b"host", b"hub"), (b"empty", b""), (b"a", b"b c"), (b"te", b"Trailers")])
def test_headers_that_a_request_may_have(more: tuple[bytes, bytes]) -> None:
    assert Heads().read((*REQUEST, more)).values(more[0])[-1] == more[1]


def test_a_head_is_known_whatever_time_is_left() -> None:
    heads = Heads({b"grpc-timeout"})
    first = heads.read((*REQUEST[:4], (b"grpc-timeout", b"9999u"), *REQUEST[4:]))
    assert heads.read((*REQUEST[:4], (b"grpc-timeout", b"5S"), *REQUEST[4:])) is first
    assert heads.read(REQUEST) is first
    assert heads.read((*REQUEST, (b"content-length", b"12"))) is not first


def test_heads_that_are_known_are_bounded() -> None:
    heads = Heads()
    first = heads.read(REQUEST)
    for number in range(1_000):
        heads.read((*REQUEST, (b"number", str(number).encode())))
    again = heads.read(REQUEST)
    assert again is not first
    assert again.headers == first.headers
