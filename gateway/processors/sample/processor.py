"""Sampling that everybody decides alike who sees any part of a trace.

A trace has 56 bits of randomness: ``rv`` of its ``tracestate``, or the last seven bytes of its id, which W3C Trace
Context Level 2 has random (and which nearly all SDKs have, whether or not they set the flag for it). It is kept where
that is not below a threshold, and the threshold goes on with it as ``th``, so that whoever counts spans knows for how
many each stands.

Source: OpenTelemetry, "TraceState: Probability Sampling" and "TraceState handling".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

from gateway.component.batch import Batch, Signal
from gateway.processors.common.conditions import Known, any_of
from gateway.processors.common.editing import Editor, Verdict
from gateway.processors.common.messages import LOG_RECORD
from gateway.processors.common.processor import EditingProcessor
from gateway.processors.sample.config import SampleConfig

_ALL = 1 << 56
_LEVELS = ("trace", "debug", "info", "warn", "error", "fatal")
_VALUE = re.compile(r"(?:^|,)\s*ot=([^,]*)")
_RANDOMNESS = re.compile(r"[0-9a-f]{14}")
_THRESHOLD = re.compile(r"[0-9a-f]{1,14}")
_MOST_VENDORS = 32
_MOST_VALUE = 256
"""What W3C Trace Context and OpenTelemetry allow of members in a ``tracestate``, and of characters in ours."""


class Sample(EditingProcessor):
    """Keeps a part of traces and logs."""

    def __init__(self, name: str, config: SampleConfig) -> None:
        super().__init__(name)
        self._ratio = config.ratio
        self._is_proportional = config.mode == "proportional"
        self._always = any_of(config.always) if config.always else None
        self._thresholds = _by_number(config)

    def editor(self, batch: Batch) -> Editor | None:
        """Return what samples one batch."""
        if batch.signal is Signal.TRACES:
            if self._ratio >= 1:
                return None
            return _Spans(self._always, self._ratio, is_proportional=self._is_proportional)
        return _Logs(self._always, self._thresholds) if any(self._thresholds) else None


class _Sampling(Editor):
    def __init__(self, always: Callable[[Known], bool | None] | None) -> None:
        self._always = always
        self._known = Known()

    def resource(self, resource: Any) -> Verdict:
        return self._entered(self._known.enter_resource, resource.resource)

    def scope(self, scope: Any) -> Verdict:
        return self._entered(self._known.enter_scope, scope.scope)

    def _entered(self, enter: Callable[[bytes], None], raw: bytes) -> Verdict:
        if self._always is None:
            return Verdict.LOOK
        enter(raw)
        return Verdict.KEEP if self._always(self._known) else Verdict.LOOK

    def _is_kept_anyway(self, raw: bytes, message: Any) -> bool:
        if self._always is None:
            return False
        self._known.enter_record(raw, message)
        return bool(self._always(self._known))


class _Logs(_Sampling):
    def __init__(self, always: Callable[[Known], bool | None] | None, thresholds: tuple[int, ...]) -> None:
        super().__init__(always)
        self._thresholds = thresholds

    def record(self, raw: bytes, message: Any) -> bytes | None:
        record = LOG_RECORD.FromString(raw)
        number = record.severity_number
        threshold = self._thresholds[number if 0 <= number <= 24 else 0]
        if not threshold:
            return raw
        trace_id = record.trace_id
        randomness = _of_id(trace_id) if len(trace_id) == 16 and any(trace_id) else _of_bytes(raw)
        return raw if randomness >= threshold or self._is_kept_anyway(raw, message) else None


class _Spans(_Sampling):
    def __init__(self, always: Callable[[Known], bool | None] | None, ratio: float, *, is_proportional: bool) -> None:
        super().__init__(always)
        self._ratio = ratio
        self._threshold = threshold_of(ratio)
        self._is_proportional = is_proportional

    def record(self, raw: bytes, message: Any) -> bytes | None:
        span = message.FromString(raw)
        if len(span.trace_id) != 16:  # which is no span, and is refused by others, with the reason
            return raw
        state = span.trace_state
        randomness, before = _of_id(span.trace_id), 0
        if state and "ot=" in state:
            randomness, before = read_state(state, randomness)
        threshold = self._threshold
        if before:
            kept_before = _ALL - before
            if self._is_proportional:
                threshold = _ALL - round(kept_before * self._ratio)
            threshold = max(threshold, before)
        if randomness < threshold:
            return raw if self._is_kept_anyway(raw, message) else None
        if threshold == before:
            return raw
        span.trace_state = with_threshold(state, threshold)
        return bytes(span.SerializeToString())


def threshold_of(ratio: float) -> int:
    """Return below which of 2**56 values of randomness a trace is not kept."""
    return _ALL - round(ratio * _ALL)


def _by_number(config: SampleConfig) -> tuple[int, ...]:
    """Return the threshold for each number of a severity; that of 0 is for log records that have none."""
    found = [threshold_of(config.ratio)]
    ratio = config.ratio
    for level in _LEVELS:
        ratio = config.by_severity.get(level, ratio)  # type: ignore[call-overload]
        found += [threshold_of(ratio)] * 4
    return tuple(found)


def _of_id(trace_id: bytes) -> int:
    return int.from_bytes(trace_id[-7:], "big")


def _of_bytes(raw: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(raw, digest_size=7).digest(), "big")


def read_state(state: str, randomness: int) -> tuple[int, int]:
    """Return the randomness and the threshold that a ``tracestate`` tells; what it does not tell is as given, and 0."""
    threshold = 0
    if (value := _VALUE.search(state)) is not None:
        for part in value[1].strip().split(";"):
            key, _, told = part.partition(":")
            if key == "rv" and _RANDOMNESS.fullmatch(told):
                randomness = int(told, 16)
            elif key == "th" and _THRESHOLD.fullmatch(told):
                threshold = int(told.ljust(14, "0"), 16)
    return randomness, threshold


def with_threshold(state: str, threshold: int) -> str:
    """Return a ``tracestate`` that tells a threshold, as its first member, for it is the latest that was changed."""
    told = f"{threshold:014x}".rstrip("0") or "0"
    members = [member for each in state.split(",") if (member := each.strip())]
    ours = next((each for each in members if each.startswith("ot=")), "ot=")
    rest = [part for part in ours.removeprefix("ot=").split(";") if part and not part.startswith("th:")]
    value = ";".join([f"th:{told}", *rest])
    if len(value) > _MOST_VALUE:
        value = f"th:{told}"
    others = [each for each in members if not each.startswith("ot=")]
    return ",".join([f"ot={value}", *others[: _MOST_VENDORS - 1]])
