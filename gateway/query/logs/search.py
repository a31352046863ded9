"""The newest records of all sources, found quickly: for whoever looks at them, not for whoever needs all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gateway.base.instants import unix_nano
from gateway.query.backwards import Backwards
from gateway.query.logs.merging import merged
from gateway.query.logs.records import LogFilter, LogRecord, LogSource, SourceError, TemporarySourceError


@dataclass(slots=True)
class Found:
    """What was found. ``troubles`` tell of sources that could not be read, in words."""

    records: list[LogRecord] = field(default_factory=list)
    """The newest first."""
    reached: datetime | None = None
    """How far back was looked, where there may be more before."""
    troubles: list[str] = field(default_factory=list)


def search(
    sources: Sequence[LogSource], wanted: LogFilter, start: datetime, end: datetime, most: int, ahead: timedelta
) -> Found:
    """Return the newest records of a range, at most ``most``.

    The first of the sources is read backwards, as far as time allows (see `Backwards`), the others at once. What clocks
    that are ``ahead`` have stamped is found as well. Raises `QueryError` where the store cannot be read.
    """
    result = Found()
    streams = []
    for number, source in enumerate(sources):
        try:
            if number == 0:
                records, result.reached = _backwards(source, wanted, start, end, most, ahead)
            else:
                records = source.latest(wanted, unix_nano(start), unix_nano(end + ahead), most)
        except TemporarySourceError as error:
            if number == 0 and error.__cause__ is not None:
                raise error.__cause__ from error
            result.troubles.append(str(error))
        except SourceError as error:
            result.troubles.append(str(error))
        else:
            streams.append(records)
    result.records = list(merged(streams))[-most:][::-1]
    if len(result.records) == most:
        result.reached = None
    return result


def _backwards(
    source: LogSource, wanted: LogFilter, start: datetime, end: datetime, most: int, ahead: timedelta
) -> tuple[list[LogRecord], datetime | None]:
    records: list[LogRecord] = []
    pieces = Backwards(start, end)
    for begins, ends in pieces:
        later = ends + ahead if ends == end else ends
        records = source.latest(wanted, unix_nano(begins), unix_nano(later), most - len(records)) + records
        if len(records) >= most:
            return records, None
    return records, None if pieces.is_whole else pieces.reached
