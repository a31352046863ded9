"""Tokens, and the file that keeps them."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.extensions.tokens.token import NOBODY, Token, create, split
from gateway.extensions.tokens.token_file import TokenFile, TokenFileError, UnknownTokenError
from gateway.extensions.tokens.watched_tokens import WatchedTokens
from gateway.net.access import Scope


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(name: str = "nas", lifetime: timedelta | None = None) -> tuple[Token, str]:
    return create(name, [Scope.INGEST], lifetime=lifetime)


def test_a_token_has_256_random_bits_and_the_text_says_which_one_it_is() -> None:
    token, text = make()
    parts = split(text)
    assert parts is not None
    assert parts[0] == token.id
    assert len(bytes.fromhex(parts[1])) == 32
    assert make()[1] != text


def test_what_is_kept_of_a_token_does_not_give_it_away() -> None:
    token, text = make()
    _, secret = split(text) or ("", "")
    assert secret not in token.model_dump_json()
    assert token.digest not in repr(token)
    assert token.matches(secret)
    assert not token.matches(token.digest)
    assert not token.matches(secret[:-1] + ("0" if secret[-1] != "0" else "1"))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text + "0",
        lambda text: text.upper(),
        lambda text: text.replace("obshub", "ghp"),
        lambda text: text.replace("_", "-"),
        lambda text: f" {text}",
        lambda text: "",
        lambda text: text[:-1] + "²",
    ],
)
def test_what_is_not_written_like_a_token_is_none(change: Callable[[str], str]) -> None:
    assert split(change(make()[1])) is None


def test_nobody_cannot_be_impersonated() -> None:
    assert not NOBODY.matches("")
    assert not NOBODY.matches("0" * 64)


def test_a_token_ends_when_its_time_is_over() -> None:
    token, _ = make(lifetime=timedelta(days=90))
    assert token.expires_at is not None
    assert not token.expired(token.expires_at - timedelta(seconds=1))
    assert token.expired(token.expires_at)
    assert not make()[0].expired(datetime(9999, 1, 1, tzinfo=UTC))


def test_the_file_is_for_its_owner_alone_and_holds_no_secret(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "new" / "tokens.json")
    token, text = make()
    file.add(token)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    secret = text.rpartition("_")[2]
    assert not any(secret in path.read_text() for path in file.path.parent.iterdir())
    assert file.read() == (token,)


def test_a_change_replaces_the_file_as_a_whole(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    file.add(make("one")[0])
    with file.path.open("rb") as before:
        file.add(make("two")[0])
        assert len(json.load(before)["tokens"]) == 1  # who reads while it changes sees the old one, complete
    assert [token.name for token in file.read()] == ["one", "two"]


def test_a_revoked_token_is_gone(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    one, two = make("one")[0], make("two")[0]
    file.add(one)
    file.add(two)
    assert file.revoke(one.id) == one
    assert file.read() == (two,)
    with pytest.raises(UnknownTokenError, match="obs-hub token list"):
        file.revoke(one.id)


def add_some(path: Path, count: int) -> None:
    for _ in range(count):
        TokenFile(path).add(make()[0])


def test_several_processes_that_make_tokens_lose_none(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=add_some, args=(path, 20)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len({token.id for token in TokenFile(path).read()}) == 60


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"version": 2, "tokens": []}', '{"tokens": [{"id": "x"}]}', '{"tokens": [], "more": 1}', "\xff"],
)
def test_a_damaged_file_is_an_error_and_is_not_written_over(tmp_path: Path, text: str) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    file.path.write_text(text)
    with pytest.raises(TokenFileError, match="is damaged"):
        file.read()
    with pytest.raises(TokenFileError):
        file.add(make()[0])
    assert file.path.read_text() == text


def test_the_error_of_a_damaged_file_shows_nothing_of_it(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    token, _ = make()
    file.add(token)
    damaged = json.loads(file.path.read_text())
    damaged["tokens"][0]["digest"] += "0"
    file.path.write_text(json.dumps(damaged))
    with pytest.raises(TokenFileError) as caught:
        file.read()
    assert token.digest not in str(caught.value)


def test_a_file_of_a_version_with_more_scopes_goes_on_being_read(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    for name in ("both", "hooks alone"):
        file.add(create(name, [Scope.INGEST])[0])
    content = json.loads(file.path.read_text())
    for token, scopes in zip(content["tokens"], (["ingest", "webhook"], ["webhook"]), strict=True):
        token["scopes"] = scopes
    file.path.write_text(json.dumps(content))

    assert {token.name: token.scopes for token in file.read()} == {"both": {Scope.INGEST}, "hooks alone": frozenset()}


def test_the_same_id_twice_is_damage(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    token, _ = make()
    file.add(token)
    doubled = json.loads(file.path.read_text())
    doubled["tokens"] *= 2
    file.path.write_text(json.dumps(doubled))
    with pytest.raises(TokenFileError, match="same id"):
        file.read()


def test_a_file_that_everybody_may_write_is_not_believed(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    file.add(make()[0])
    file.path.chmod(0o666)
    with pytest.raises(TokenFileError, match="written by everybody"):
        file.read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_that_root_replaces_keeps_its_owner(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    file.add(make()[0])
    os.chown(file.path, 12345, 12345)
    file.add(make()[0])
    assert (file.path.stat().st_uid, file.path.stat().st_gid) == (12345, 12345)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_gateway_notices_changes_after_a_second_and_not_at_every_look(tmp_path: Path, clock: Clock) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    token, _ = make()
    file.add(token)
    watched = WatchedTokens(file, clock)
    assert watched.get(token.id) == token
    file.revoke(token.id)
    assert watched.get(token.id) == token
    clock.now += 1
    assert watched.get(token.id) is None


def test_a_token_that_was_just_made_is_known_at_once(tmp_path: Path, clock: Clock) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    watched = WatchedTokens(file, clock)
    assert watched.get("nobody") is None
    for _ in range(3):
        token, _ = make()
        file.add(token)
        assert watched.get(token.id) == token


def test_who_makes_ids_up_cannot_have_the_file_looked_at_without_end(tmp_path: Path, clock: Clock) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    token, _ = make()
    watched = WatchedTokens(file, clock)
    for number in range(100):
        assert watched.get(f"made-up-{number}") is None
    file.add(token)
    assert watched.get(token.id) is None
    clock.now += 1
    assert watched.get(token.id) == token


def test_a_missing_file_holds_nobody(tmp_path: Path, clock: Clock) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    token, _ = make()
    watched = WatchedTokens(file, clock)
    assert watched.get(token.id) is None
    file.add(token)
    clock.now += 1
    assert watched.get(token.id) == token
    file.path.unlink()
    clock.now += 1
    assert watched.get(token.id) is None


def test_a_damaged_file_changes_nothing_and_is_logged_once(tmp_path: Path, clock: Clock) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    token, _ = make()
    file.add(token)
    watched = WatchedTokens(file, clock)
    assert watched.get(token.id) == token
    file.path.write_text("{")
    with capture_logs() as logs:
        for _ in range(3):
            clock.now += 1
            assert watched.get(token.id) == token
    assert [entry["log_level"] for entry in logs] == ["error"]
    assert "is damaged" in logs[0]["reason"]
