"""Requests of many points that fit a template and hold one moment: how these are cut into sets is asked once.

Whatever is out of the ordinary is left to `frames`, which makes the same of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from exporters.timescale.frames import LATEST, Frames, bits_of, encode, whose_are
from exporters.timescale.points import NO_VALUE, NumberPoints

if TYPE_CHECKING:
    from exporters.timescale.sets import Composition, Sets
    from exporters.timescale.templates import Fit


class LargeMoment:
    """How requests of one template are read that hold one moment. ``starts`` is how many of its points have a start."""

    def __init__(self, points: NumberPoints, starts: int) -> None:
        self._starts = starts
        self._usable = bool((points.kind != NO_VALUE).all())
        self._composition = b""
        """The key of the composition of all points, when every start that there is room for is given."""
        self._set_ids: frozenset[int] = frozenset()

    def frames(self, fit: Fit, sets: Sets, earliest: int, latest: int) -> Frames | None:
        """Return the frames that the number points of a request are; None where they are to be looked at closely.

        ``earliest`` and ``latest`` are the times that are accepted.
        """
        if not self._usable:
            return None
        points = fit.points()
        unix_nano = int(points.time[0])
        if not earliest <= unix_nano <= latest or not (points.time == unix_nano).all():
            return None
        if np.count_nonzero(points.start) != self._starts or points.start.max() > LATEST:
            return None
        composition = sets.known(self._composition) or self._compose(points, sets)
        if len(composition.alone) or not sets.are_declared(composition.pieces, self._set_ids):
            return None
        return encode(unix_nano, points, composition.order, composition)

    def _compose(self, points: NumberPoints, sets: Sets) -> Composition:
        resources, metrics = whose_are(points.metrics)
        composition = sets.composition(points.series, bits_of(points), resources[points.metric], metrics[points.metric])
        self._composition = composition.key
        self._set_ids = frozenset([piece.set_id for piece in composition.pieces])
        return composition
