from __future__ import annotations

from tests.support.unproven import unproven


def test_what_was_left_out_is_counted_by_what_is_missing_with_what_to_do() -> None:
    timescale = "OBSHUB_TEST_TIMESCALE_DSN names no server with TimescaleDB"
    openbao = "OBSHUB_TEST_OPENBAO_ADDR and OBSHUB_TEST_OPENBAO_TOKEN name no OpenBao"
    assert unproven(["there is no loki on PATH", timescale, openbao, timescale]) == [
        f"   2 tests: {timescale}; run `make test-timescale DSN=postgresql://...`",
        f"   1 test: {openbao}; run `OBSHUB_TEST_OPENBAO_ADDR=... OBSHUB_TEST_OPENBAO_TOKEN=... make test`",
        "   1 test: there is no loki on PATH",
    ]


def test_a_test_that_does_not_apply_leaves_nothing_unproven() -> None:
    assert unproven(["the stand-in is never away"]) == []
