"""Request bodies are decompressed whole, within a bound, or refused with a reason."""

import asyncio
import contextlib
import gzip
import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cramjam
import pytest
import zstandard

from gateway.component import MalformedPayloadError, OverloadedError
from receivers.otlp import compression
from receivers.otlp.compression import DecompressedTooLargeError, decompress, is_supported
from receivers.otlp.grpc_messages import Bounds, Request, StatusError

MIB = 2**20
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "zlib": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "snappy": lambda content: bytes(cramjam.snappy.compress_raw(content)),
    "x-snappy-framed": lambda content: bytes(cramjam.snappy.compress(content)),
    "lz4": lambda content: bytes(cramjam.lz4.compress(content)),
}
every_encoding = pytest.mark.parametrize("encoding", COMPRESSORS)

# Compresses a little and spans many slices.
CONTENT = b"".join(os.urandom(50) + bytes(50) for _ in range(3000))


@every_encoding
@pytest.mark.parametrize("content", [b"", b"x", CONTENT])
def test_what_was_compressed_comes_back(encoding: str, content: bytes) -> None:
    assert decompress(COMPRESSORS[encoding](content), encoding, len(content)) == content


def test_zstd_needs_no_content_size_in_its_header() -> None:
    compressor = zstandard.ZstdCompressor().compressobj()
    frame = compressor.compress(CONTENT) + compressor.flush()
    assert decompress(frame, "zstd", MIB) == CONTENT


def test_snappy_may_be_framed_as_older_collectors_send_it() -> None:
    assert decompress(COMPRESSORS["x-snappy-framed"](CONTENT), "snappy", MIB) == CONTENT


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "x-snappy-framed", "lz4"])
def test_members_in_a_row_are_joined(encoding: str) -> None:
    members = b"".join(COMPRESSORS[encoding](part) for part in (CONTENT, b"", b"a", b"b"))
    assert decompress(members, encoding, MIB) == CONTENT + b"ab"


def test_identity_is_the_body_itself() -> None:
    assert decompress(b"1234", "identity", 4) == b"1234"
    with pytest.raises(DecompressedTooLargeError):
        decompress(b"12345", "identity", 4)


@every_encoding
def test_one_byte_beyond_the_limit_is_too_large(encoding: str) -> None:
    with pytest.raises(DecompressedTooLargeError):
        decompress(COMPRESSORS[encoding](CONTENT), encoding, len(CONTENT) - 1)


def test_the_limit_holds_over_all_members_together() -> None:
    with pytest.raises(DecompressedTooLargeError):
        decompress(gzip.compress(b"12") * 3, "gzip", 5)


def test_a_snappy_block_that_only_claims_to_be_large_costs_nothing() -> None:
    with pytest.raises(DecompressedTooLargeError):
        decompress(b"\xff\xff\xff\xff\x0f", "snappy", MIB)


@every_encoding
def test_a_bomb_costs_bounded_memory(encoding: str) -> None:
    bomb = COMPRESSORS[encoding](bytes(256 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(DecompressedTooLargeError):
            decompress(bomb, encoding, MIB)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 * MIB


def test_a_zstd_window_above_8_mib_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = compressor.compress(CONTENT) + compressor.flush()
    with pytest.raises(MalformedPayloadError, match="not valid zstd"):
        decompress(frame, "zstd", MIB)


@every_encoding
@pytest.mark.parametrize("kept", [0, 1, 5, 1000, -1])
def test_a_truncated_body_is_malformed(encoding: str, kept: int) -> None:
    if (encoding, kept) == ("x-snappy-framed", 0):
        pytest.skip("no chunk at all is how snappy frames nothing")
    with pytest.raises(MalformedPayloadError, match="truncated"):
        decompress(COMPRESSORS[encoding](CONTENT)[:kept], encoding, MIB)


@every_encoding
def test_garbage_is_malformed(encoding: str) -> None:
    with pytest.raises(MalformedPayloadError, match=f"not valid {encoding}"):
        decompress(b"this was never compressed", encoding, MIB)


@every_encoding
def test_garbage_behind_the_compressed_data_is_malformed(encoding: str) -> None:
    with pytest.raises(MalformedPayloadError, match=f"not valid {encoding}"):
        decompress(COMPRESSORS[encoding](b"content") + b"and then garbage", encoding, MIB)


@pytest.mark.parametrize(("encoding", "place"), [("gzip", -6), ("deflate", -2), ("x-snappy-framed", 15)])
def test_a_damaged_checksum_is_malformed(encoding: str, place: int) -> None:
    damaged = bytearray(COMPRESSORS[encoding](CONTENT))
    damaged[place] ^= 0xFF
    with pytest.raises(MalformedPayloadError, match=f"not valid {encoding}"):
        decompress(bytes(damaged), encoding, MIB)


def test_encodings_that_are_not_supported_are_known() -> None:
    assert all(map(is_supported, [*COMPRESSORS, "identity"]))
    assert not any(map(is_supported, ["br", "gzip, gzip", "", "GZIP"]))


@pytest.mark.parametrize(("size", "aside"), [(compression.OFFLOAD_BYTES, False), (4 * 2**20, True)])
async def test_what_is_large_decompressed_is_worked_off_in_a_thread(
    monkeypatch: pytest.MonkeyPatch, size: int, *, aside: bool
) -> None:
    """Though it came as a few bytes."""
    threads: list[object] = []
    to_thread = asyncio.to_thread

    async def noted(function: Any, *arguments: Any) -> Any:
        threads.append(function)
        return await to_thread(function, *arguments)

    monkeypatch.setattr(asyncio, "to_thread", noted)
    body = gzip.compress(bytes(size))
    counted: list[int] = []
    assert await compression.Gate().decompress(body, "gzip", 2**24, counted.append) == bytes(size)
    assert counted == [size]
    assert bool(threads) == aside
    with pytest.raises(DecompressedTooLargeError):
        await compression.Gate().decompress(body, "gzip", size - 1, counted.append)


async def test_of_many_large_bodies_few_are_decompressed_before_they_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is within its limit; all of them at once may be more than the memory."""
    made = counted = most = 0

    def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
        nonlocal made, most
        if limit < 2**24:
            raise DecompressedTooLargeError
        made += 1
        most = max(most, made - counted)
        return body

    def count(size: int) -> None:
        nonlocal counted
        counted += 1
        if counted == 10:
            raise OverloadedError("no room")

    monkeypatch.setattr(compression, "decompress", decompressed)
    gate = compression.Gate()
    answers = await asyncio.gather(
        *(gate.decompress(b"x", "gzip", 2**24, count) for _ in range(50)), return_exceptions=True
    )
    assert (made, counted) == (50, 50)
    assert most <= 4
    assert sum(isinstance(each, OverloadedError) for each in answers) == 1


async def test_a_grpc_message_counts_by_what_it_decompresses_to_until_it_is_handed_on() -> None:
    bounds = Bounds(2**24, 2**20, "setting")
    body = gzip.compress(bytes(2**19))
    requests = [Request(bounds) for _ in range(3)]
    for request in requests:
        request.add(struct.pack(">BL", 1, len(body)) + body)
    for request in requests[:2]:
        with contextlib.suppress(StatusError):
            await request.message("gzip")
    assert bounds.held > 2**20
    with pytest.raises(StatusError, match="too many requests are arriving at once"):
        await requests[2].message("gzip")
    for request in requests:
        request.release()
        request.release()
    assert bounds.held == 0


@every_encoding
def test_bodies_that_are_decompressed_at_the_same_time_do_not_mix(encoding: str) -> None:
    bodies = [bytes([number]) * 400_000 + os.urandom(100_000) for number in range(40)]
    compressed = [COMPRESSORS[encoding](body) for body in bodies]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda each: decompress(each, encoding, MIB), compressed))
    assert results == bodies
