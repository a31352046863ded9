"""The image by which networks show a link to the page: a PNG, because they take no SVG.

It has no text, which networks write beside it; so it needs no font, and no library but numpy. What it shows is the
hub's one idea: much comes in, and one line goes out.
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 1200, 630
"""What networks ask for."""

_GROUND, _ACCENT, _FAINT = (251, 250, 247), (31, 111, 92), (196, 205, 198)
_LINES = 9
_HUB = (600.0, 315.0)

_Grid = npt.NDArray[np.float64]
_Points = list[tuple[float, float]]


def social_image() -> bytes:
    """Return the image. The same bytes every time, by one version of zlib."""
    picture = np.empty((HEIGHT, WIDTH, 3))
    picture[:] = _GROUND
    for number in range(_LINES):
        _stroke(picture, _incoming(number), 3.0, _FAINT if number % 4 else _ACCENT)
    _stroke(picture, _outgoing(), 9.0, _ACCENT)
    _disc(picture, _HUB, 92.0, _ACCENT)
    _stroke(picture, _pulse(), 9.0, (255, 255, 255))
    return _png(picture)


def _incoming(number: int) -> _Points:
    """Return the way of one of those who send: from the left edge, and all into the hub."""
    begin = 75 + number * (480 / (_LINES - 1))
    bend = [n / 40 for n in range(41)]
    return [(t * _HUB[0], begin + (_HUB[1] - begin) * (3 * t**2 - 2 * t**3)) for t in bend]


def _outgoing() -> _Points:
    return [_HUB, (WIDTH - 72.0, _HUB[1])]


def _pulse() -> _Points:
    """Return the line of the icon, which is 32 wide."""
    places = ((5, 16), (10, 16), (13, 9), (18, 23), (21, 16), (27, 16))
    return [(_HUB[0] + (x - 16) * 6.0, _HUB[1] + (y - 16) * 6.0) for x, y in places]


def _stroke(picture: _Grid, points: _Points, width: float, colour: tuple[int, int, int]) -> None:
    """Draw a line with round ends and corners. Each piece covers what is nearer to it than half the width."""
    reach = math.ceil(width / 2 + 1)
    nearest = np.full((HEIGHT, WIDTH), np.inf)
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        rows = slice(max(int(min(y0, y1)) - reach, 0), int(max(y0, y1)) + reach + 1)
        columns = slice(max(int(min(x0, x1)) - reach, 0), int(max(x0, x1)) + reach + 1)
        around = nearest[rows, columns]
        y, x = (grid + 0.5 for grid in np.ogrid[rows, columns])
        y, x = y[: around.shape[0]], x[:, : around.shape[1]]
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
        np.minimum(around, (x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2, out=around)
    touched = np.flatnonzero(np.isfinite(nearest).any(axis=1))
    rows = slice(int(touched[0]), int(touched[-1]) + 1)
    _blend(picture[rows], width / 2 - np.sqrt(nearest[rows]), colour)


def _disc(picture: _Grid, centre: tuple[float, float], radius: float, colour: tuple[int, int, int]) -> None:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64) + 0.5
    _blend(picture, radius - np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2), colour)


def _blend(picture: _Grid, inside: _Grid, colour: tuple[int, int, int]) -> None:
    """Paint what is inside; half of a pixel on the edge is half painted."""
    share = np.clip(inside + 0.5, 0, 1)[..., None]
    picture += share * (np.array(colour) - picture)


def _png(picture: _Grid) -> bytes:
    pixels = np.rint(picture).astype(np.uint8).reshape(HEIGHT, WIDTH * 3)
    rows = np.zeros((HEIGHT, 1 + WIDTH * 3), np.uint8)  # each begins with its filter: none
    rows[:, 1:] = pixels
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
