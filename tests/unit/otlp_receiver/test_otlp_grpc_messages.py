"""What a status looks like in trailers."""

from __future__ import annotations

from urllib.parse import unquote

import pytest

from receivers.otlp.grpc_messages import StatusError
from receivers.otlp.refusal import unavailable


@pytest.mark.parametrize("character", ["a", "ü", "%", "€", "\N{GRINNING FACE}"])
def test_the_longest_status_stays_within_what_clients_take(character: str) -> None:
    trailers = dict(StatusError.of(unavailable(character * 100_000)).trailers())
    # RFC 9113, 6.5.2: each header counts for 32 bytes more than its name and value.
    assert sum(len(name) + len(value) + 32 for name, value in trailers.items()) < 8 * 1024 - 400
    message = unquote(trailers[b"grpc-message"].decode(), errors="strict")
    assert set(message) <= {character, "…"}
    assert len(message) > 150


def test_a_short_message_is_sent_whole() -> None:
    trailers = dict(StatusError.of(unavailable("50 % größer")).trailers())
    assert trailers[b"grpc-message"] == b"50 %25 gr%C3%B6%C3%9Fer"
