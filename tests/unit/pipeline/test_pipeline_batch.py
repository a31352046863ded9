"""A batch has the digest of what its sender sent, and nobody waits while that of a large one is computed."""

from __future__ import annotations

import threading

import pytest

from gateway.component import Batch, Signal
from gateway.component import batch as module

SMALL, LARGE = b"x", b"x" * (5 * 2**20)


@pytest.mark.parametrize(("payload", "in_a_thread"), [(SMALL, False), (LARGE, True)], ids=["small", "large"])
async def test_the_digest_of_a_large_payload_does_not_hold_the_loop(
    monkeypatch: pytest.MonkeyPatch, payload: bytes, in_a_thread: bool
) -> None:
    compute, threads = module.digest, set()

    def digest(signal: Signal, payload: bytes) -> bytes:
        threads.add(threading.current_thread())
        return compute(signal, payload)

    monkeypatch.setattr(module, "digest", digest)
    received = await Batch.received(Signal.LOGS, payload, own_telemetry=True, peer="::1")
    assert threads.isdisjoint({threading.main_thread()}) == in_a_thread
    assert (received, received.peer) == (Batch.of(Signal.LOGS, payload, own_telemetry=True), "::1")
