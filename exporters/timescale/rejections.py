"""Which records are left out, and how that is told to the sender.

OTLP lets a receiver keep the good records of a request and report the rest as ``partial_success``, a count and a
message. Source: OTLP specification, "Partial Success".
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

from exporters.timescale.config import TimescaleConfig
from gateway.base.settings import format_duration
from gateway.component import ACCEPTED, Outcome, Signal

NO_TIMESTAMP = "without a timestamp (set time_unix_nano)"
COUNT_TOO_LARGE = "with a count above 9223372036854775807, the largest that PostgreSQL's bigint holds"
BAD_TRACE_ID = "with a trace_id that is not 16 bytes, or all zero"
BAD_SPAN_ID = "with a span_id that is not 8 bytes, or all zero"


@dataclass(slots=True, frozen=True)
class TimeWindow:
    """The accepted timestamps of one batch, in nanoseconds since the Unix epoch, both ends included."""

    earliest: int
    latest: int
    past: timedelta
    future: timedelta

    def reason(self, unix_nano: int) -> str | None:
        """Return why a timestamp is not accepted, or None when it is."""
        if unix_nano < self.earliest:
            return self.too_early
        return self.too_late if unix_nano > self.latest else None

    @property
    def too_early(self) -> str:
        """The reason of a record from before the window."""
        return f"older than {format_duration(self.past)} (setting accept.past)"

    @property
    def too_late(self) -> str:
        """The reason of a record from after the window."""
        return f"more than {format_duration(self.future)} ahead of this gateway's clock (setting accept.future)"


class Acceptance:
    """The time windows that the settings give each signal."""

    def __init__(self, config: TimescaleConfig) -> None:
        kept = config.retention
        future = config.accept.future
        pasts = {
            signal: config.accepted_past(retention)
            for signal, retention in (
                (Signal.METRICS, kept.metrics),
                (Signal.LOGS, kept.logs),
                (Signal.TRACES, kept.traces),
            )
        }
        microsecond = timedelta(microseconds=1)
        self._of = {
            signal: (past, future, past // microsecond * 1000, future // microsecond * 1000)
            for signal, past in pasts.items()
        }

    def window(self, signal: Signal, now: int) -> TimeWindow:
        """Return the window of a signal as of an instant, in nanoseconds since the Unix epoch."""
        past, future, past_ns, future_ns = self._of[signal]
        return TimeWindow(max(now - past_ns, 1), now + future_ns, past, future)


class Rejections:
    """Counts the records of one batch that were left out, by reason."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._reasons: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, reason: str, count: int = 1, place: str = "") -> None:
        """Count records left out. ``place`` is where in the request one of them stands, where that is told."""
        if count:
            self._reasons[reason] += count
            if place:
                self._first.setdefault(reason, place)

    def outcome(self) -> Outcome:
        """Return the partial success to report."""
        if not self._reasons:
            return ACCEPTED
        total = self._reasons.total()
        parts = "; ".join(
            f"{count} {reason}" + (f", first {self._first[reason]}" if reason in self._first else "")
            for reason, count in self._reasons.most_common()
        )
        return Outcome(total, f"{total} {self._signal.records} rejected: {parts}")
