"""The hash by which ``limit_ratio`` picks series: the same ones as Prometheus."""

from __future__ import annotations

import pytest

from gateway.query.promql.hashes import label_hash, xxh64


@pytest.mark.parametrize(
    ("data", "expected"),
    [  # of the algorithm's own tests and documentation
        (b"", 0xEF46DB3751D8E999),
        (b"a", 0xD24EC4F1A98C6E5B),
        (b"abc", 0x44BC2CF5AD770999),
        (b"abcd", 0xDE0327B0D25D92CC),
        (b"Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1),
    ],
)
def test_it_is_xxh64(data: bytes, expected: int) -> None:
    assert xxh64(data) == expected


def test_labels_are_hashed_as_prometheus_keeps_them() -> None:
    """Each name and value behind its length: one byte, or from 255 on that byte and three more."""
    assert label_hash((("__name__", "up"), ("job", "é"))) == xxh64(b"\x08__name__\x02up\x03job\x02\xc3\xa9")
    assert label_hash((("a", "x" * 254),)) == xxh64(b"\x01a\xfe" + b"x" * 254)
    assert label_hash((("a", "x" * 300),)) == xxh64(b"\x01a\xff\x2c\x01\x00" + b"x" * 300)
