"""What the authenticator lets in, and what it says to those it does not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.extensions.tokens import authenticator as module
from gateway.extensions.tokens.authenticator import TokenAuthenticator
from gateway.extensions.tokens.limits import Failures, InFlight, Rate, network_of
from gateway.extensions.tokens.token import NOBODY, Token, create
from gateway.extensions.tokens.token_file import TokenFile
from gateway.extensions.tokens.watched_tokens import WatchedTokens
from gateway.net.access import PermissionDeniedError, RateLimitedError, Scope, TooLargeError, UnauthenticatedError

PEER = "192.0.2.7"


class Door:
    """An authenticator over a file, with hands on its clocks."""

    def __init__(self, path: Path) -> None:
        self.now = 1000.0
        self.today = datetime.now(UTC)
        self.file = TokenFile(path)
        self.failures = Failures(3, 60)
        self.authenticator = TokenAuthenticator(
            WatchedTokens(self.file, lambda: self.now), self.failures, lambda: self.now, lambda: self.today
        )

    def token(self, *scopes: Scope, **settings: Any) -> tuple[Token, str]:
        made, text = create("nas", scopes or (Scope.INGEST,), **settings)
        self.file.add(made)
        self.now += 1
        return made, text

    def knock(self, authorization: str | None, peer: str = PEER, scope: Scope = Scope.INGEST) -> Any:
        return self.authenticator.authenticate(authorization, peer, scope)


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path / "tokens.json")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_opens_what_its_scope_names(door: Door, scheme: str) -> None:
    _, text = door.token(Scope.INGEST, Scope.READ)
    for scope in (Scope.INGEST, Scope.READ):
        door.knock(f"{scheme} {text}", scope=scope)
    with pytest.raises(PermissionDeniedError, match="no scope 'admin', only ingest, read"):
        door.knock(f"{scheme} {text}", scope=Scope.ADMIN)


def test_without_a_token_the_answer_says_how(door: Door) -> None:
    for nothing in (None, ""):
        with pytest.raises(UnauthenticatedError, match="obs-hub token create") as caught:
            door.knock(nothing)
        assert not caught.value.presented


@pytest.mark.parametrize(
    "wrong",
    [
        lambda text: text,  # no scheme
        lambda text: f"Basic {text}",
        lambda text: f"Bearer {text}x",
        lambda text: f"Bearer {text[:-4]}0000",
        lambda text: f"Bearer obshub_{NOBODY.id}_{text[-64:]}",
        lambda text: f"Bearer {text.split('_')[0]}_{'f' * 12}_{text.split('_')[2]}",
        lambda text: "Bearer",
        lambda text: "Bearer \x00ÿ",
    ],
)
def test_anything_else_is_refused_and_repeated_nowhere(door: Door, wrong: Callable[[str], str]) -> None:
    _, text = door.token()
    presented = wrong(text)
    with capture_logs() as logs, pytest.raises(UnauthenticatedError) as caught:
        door.knock(presented)
    assert caught.value.presented
    assert logs
    secret = text.rpartition("_")[2]
    for told in (str(caught.value), repr(logs)):
        assert secret[:40] not in told


def test_an_unknown_id_costs_the_same_comparison_as_a_known_one(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    _, text = door.token()
    compared: list[str] = []
    real = Token.matches

    def matches(token: Token, secret: str) -> bool:
        compared.append(token.id)
        return real(token, secret)

    monkeypatch.setattr(module.Token, "matches", matches)
    unknown = f"obshub_{'f' * 12}_{'0' * 64}"
    with pytest.raises(UnauthenticatedError) as caught:
        door.knock(f"Bearer {unknown}")
    of_unknown = str(caught.value)
    with pytest.raises(UnauthenticatedError) as caught:
        door.knock(f"Bearer {text[:-64]}{'0' * 64}")
    assert str(caught.value) == of_unknown
    assert compared == [NOBODY.id, text.split("_")[1]]


def test_an_expired_token_is_refused_and_only_its_owner_is_told_why(door: Door) -> None:
    _, text = door.token(lifetime=timedelta(days=1))
    door.knock(f"Bearer {text}")
    door.today += timedelta(days=2)
    with pytest.raises(UnauthenticatedError, match="expired on"):
        door.knock(f"Bearer {text}")
    with pytest.raises(UnauthenticatedError, match="unknown, or has been revoked"):
        door.knock(f"Bearer {text[:-64]}{'0' * 64}")


def test_a_revoked_token_is_refused_a_second_later(door: Door) -> None:
    token, text = door.token()
    door.knock(f"Bearer {text}")
    door.file.revoke(token.id)
    door.now += 1
    with pytest.raises(UnauthenticatedError):
        door.knock(f"Bearer {text}")


def test_failures_from_one_address_are_limited_and_valid_tokens_are_let_in_all_the_same(door: Door) -> None:
    _, text = door.token()
    for _ in range(3):
        with pytest.raises(UnauthenticatedError):
            door.knock("Bearer x")
    with pytest.raises(RateLimitedError) as caught:
        door.knock("Bearer x")
    assert caught.value.retry_after == 60
    door.knock(f"Bearer {text}")
    with pytest.raises(UnauthenticatedError):
        door.knock("Bearer x", peer="192.0.2.8")
    door.now += 60
    with pytest.raises(UnauthenticatedError):
        door.knock("Bearer x")


def test_failures_are_logged_and_cannot_flood_the_log(door: Door) -> None:
    with capture_logs() as logs:
        for number in range(1000):
            with pytest.raises(UnauthenticatedError):
                door.knock("Bearer x", peer=f"10.0.{number // 250}.{number % 250}")
    assert 0 < len([entry for entry in logs if entry["event"] == "authentication failed"]) <= 20


def test_a_token_may_make_so_many_requests_a_second(door: Door) -> None:
    _, text = door.token(rate=2.0)
    _, other = door.token()
    for _ in range(2):
        door.knock(f"Bearer {text}")
    with pytest.raises(RateLimitedError, match="2 requests a second") as caught:
        door.knock(f"Bearer {text}")
    assert caught.value.retry_after == pytest.approx(0.5)
    door.knock(f"Bearer {other}")
    door.now += caught.value.retry_after
    door.knock(f"Bearer {text}")


def test_a_token_may_have_so_many_bytes_in_flight(door: Door) -> None:
    _, text = door.token(in_flight=100)
    grant = door.knock(f"Bearer {text}")
    with grant.hold(60):
        with door.knock(f"Bearer {text}").hold(40):
            pass
        with pytest.raises(RateLimitedError, match="60 bytes in flight, of at most 100"), grant.hold(41):
            pass
    with pytest.raises(TooLargeError, match="larger, decompressed, than the 100 bytes"), grant.hold(101):
        pass


def test_what_a_request_holds_grows_with_what_arrives_of_it(door: Door) -> None:
    _, text = door.token(in_flight=100)
    grant = door.knock(f"Bearer {text}")
    with grant.hold(10) as one, grant.hold(20) as other:
        assert one.most == 100
        one.resize(80)
        with pytest.raises(RateLimitedError, match="80 bytes in flight"):
            other.resize(21)
        with pytest.raises(TooLargeError):
            one.resize(101)
        one.resize(5)
        other.resize(95)
    with grant.hold(100):
        pass


def test_what_is_held_is_given_back_whatever_happens() -> None:
    in_flight = InFlight(100)
    with pytest.raises(KeyError), in_flight.hold(100):
        raise KeyError
    with in_flight.hold(60), in_flight.hold(40):
        pass


def test_limits_outlive_a_change_of_another_token(door: Door) -> None:
    _, text = door.token(rate=1.0)
    door.knock(f"Bearer {text}")
    door.file.add(create("another", [Scope.INGEST])[0])
    door.now += 0.5
    with pytest.raises(RateLimitedError):
        door.knock(f"Bearer {text}")


def test_a_slow_rate_still_lets_one_through() -> None:
    rate = Rate(0.1, 0.0)
    assert rate.take(0.0) == 0
    assert rate.take(5.0) == pytest.approx(5.0)
    assert rate.take(10.0) == 0


def test_the_table_of_failures_is_bounded() -> None:
    failures = Failures(1, 60, max_peers=10)
    failures.add("192.0.2.1", 0)
    for number in range(100):
        failures.add(f"10.0.0.{number}", 0)
    assert len(failures) == 10
    assert failures.add("192.0.2.1", 0) == 0  # forgotten


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix:", "unix:"),
        ("x" * 1000, "x" * 64),
    ],
)
def test_an_address_counts_as_the_network_that_one_client_has(peer: str, network: str) -> None:
    assert network_of(peer) == network
