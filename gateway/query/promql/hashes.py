"""The hash of labels that Prometheus samples series by (``limit_ratio``): XXH64, of the algorithm's specification."""

from __future__ import annotations

import struct

from gateway.query.promql.labels import LabelSet

_MASK = (1 << 64) - 1
_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def label_hash(labels: LabelSet) -> int:
    """Return the hash of labels: of their names and values, each behind its length."""
    parts: list[bytes] = []
    for text in (text for pair in labels for text in pair):
        data = text.encode("utf-8", "surrogateescape")
        parts += [_size(len(data)), data]
    return xxh64(b"".join(parts))


def _size(length: int) -> bytes:
    """Return a length as one byte, or from 255 on as 255 and three bytes."""
    return bytes([length]) if length < 255 else b"\xff" + length.to_bytes(3, "little")


def xxh64(data: bytes) -> int:
    """Return XXH64 of `data`, without a seed."""
    at, length = 0, len(data)
    if length >= 32:
        lanes = [(_P1 + _P2) & _MASK, _P2, 0, -_P1 & _MASK]
        while at + 32 <= length:
            words = struct.unpack_from("<4Q", data, at)
            lanes = [_round(lane, word) for lane, word in zip(lanes, words, strict=True)]
            at += 32
        result = sum(_rotated(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK
        for lane in lanes:
            result = ((result ^ _round(0, lane)) * _P1 + _P4) & _MASK
    else:
        result = _P5
    result = (result + length) & _MASK
    while at + 8 <= length:
        (word,) = struct.unpack_from("<Q", data, at)
        result = (_rotated(result ^ _round(0, word), 27) * _P1 + _P4) & _MASK
        at += 8
    if at + 4 <= length:
        (word,) = struct.unpack_from("<I", data, at)
        result = (_rotated(result ^ (word * _P1 & _MASK), 23) * _P2 + _P3) & _MASK
        at += 4
    for byte in data[at:]:
        result = _rotated(result ^ (byte * _P5 & _MASK), 11) * _P1 & _MASK
    for shift, prime in ((33, _P2), (29, _P3)):
        result = (result ^ (result >> shift)) * prime & _MASK
    return result ^ (result >> 32)


def _rotated(value: int, by: int) -> int:
    return ((value << by) | (value >> (64 - by))) & _MASK


def _round(lane: int, word: int) -> int:
    return _rotated((lane + word * _P2) & _MASK, 31) * _P1 & _MASK
