"""Frames encoded for COPY, many at once: for stores that are too large to be written by the exporter."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gateway.store import POSTGRES_EPOCH_US

FRAME_COLUMNS = "time, set_id, time_ns, start_time, start_time_ns, vals"


def encoded_frames(
    set_id: int, times: npt.NDArray[np.int64], values: npt.NDArray[np.float64], start: int | None = None
) -> npt.NDArray[np.void]:
    """Rows of `FRAME_COLUMNS` in PostgreSQL's binary format, one for each of ``times``.

    ``values`` have a row for each time and a column for each member of the set. Times are nanoseconds since the Unix
    epoch, ``start`` is that of all sums among the members.
    """
    count = values.shape[1]
    starts = [("start", ">i4")] if start is None else [("start", ">i4"), ("start_us", ">i8")]
    start_ns = [("start_ns", ">i4")] if start is None else [("start_ns", ">i4"), ("start_ns_value", ">i2")]
    kind = np.dtype(
        [("fields", ">i2"), ("l1", ">i4"), ("time", ">i8"), ("l2", ">i4"), ("set_id", ">i8"), ("l3", ">i4"),
         ("ns", ">i2"), *starts, *start_ns, ("size", ">i4"), ("array", ">i4", 5),
         ("items", [("length", ">i4"), ("value", ">f8")], count)]
    )  # fmt: skip
    rows = np.zeros(len(times), kind)
    rows["fields"], rows["l1"], rows["l2"], rows["l3"] = 6, 8, 8, 2
    rows["time"], rows["ns"], rows["set_id"] = times // 1_000 - POSTGRES_EPOCH_US, times % 1_000, set_id
    rows["start"] = rows["start_ns"] = -1
    if start is not None:
        rows["start"], rows["start_us"] = 8, start // 1_000 - POSTGRES_EPOCH_US
        rows["start_ns"], rows["start_ns_value"] = 2, start % 1_000
    rows["size"], rows["array"] = 20 + 12 * count, (1, 0, 701, count, 1)
    rows["items"]["length"], rows["items"]["value"] = 8, values
    return rows
