"""The options of a connection string are read as PostgreSQL reads its command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from gateway.store.postgres import options, program_options, with_pooler
from gateway.store.postgres.session import plan


@pytest.mark.parametrize(
    ("text", "settings", "remaining"),
    [
        ("", {}, ""),
        ("-c a=1 -cb=2 --c-d=3", {"a": "1", "b": "2", "c_d": "3"}, ""),
        (r"-c search_path=a\ b,c -c x=\\y", {"search_path": "a b,c", "x": "\\y"}, ""),
        ("-c TimeZone=UTC", {"timezone": "UTC"}, ""),
        ("-c a=1 -c a=2", {"a": "2"}, ""),
        ("-c empty=", {"empty": ""}, ""),
        ("endpoint=blue -c a=1 -B", {"a": "1"}, "endpoint=blue -B"),
        ("-c log_connections=on -c novalue -c", {}, "-clog_connections=on -cnovalue -c"),
    ],
)
def test_settings_are_taken_out(text: str, settings: dict[str, str], remaining: str) -> None:
    assert options.split(text) == (settings, remaining)


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,9}", fullmatch=True), st.text(st.characters(exclude_characters="\0"))))
def test_what_is_written_is_read(settings: dict[str, str]) -> None:
    assert options.split(options.join(settings)) == (settings, "")


def test_a_pooler_is_named_among_the_options_and_never_sent() -> None:
    dsn = with_pooler("postgresql://me@db/hub?options=-csearch_path%3Dtele", "transaction")
    session = plan(dsn)
    assert session.pooler == "transaction"
    assert session.search_path == "tele"
    assert conninfo_to_dict(session.conninfo)["options"] == ""
    assert "obs_hub" not in program_options(dsn)
    assert options.split(program_options(dsn))[0]["search_path"] == "tele"
    assert with_pooler("host=db", "auto") == "host=db"


def test_a_dead_network_is_heard_of_in_a_minute_unless_the_string_says_otherwise() -> None:
    session = plan("host=db")
    assert conninfo_to_dict(session.conninfo)["keepalives_idle"] == "30"
    assert session.settings["tcp_keepalives_idle"][0] == "30"
    its_own = plan("host=db keepalives_idle=7 options='-c tcp_keepalives_idle=8'")
    assert conninfo_to_dict(its_own.conninfo)["keepalives_idle"] == "7"
    assert its_own.settings["tcp_keepalives_idle"][0] == "8"


def test_the_set_up_of_a_session_is_bounded_as_the_login_is() -> None:
    assert plan("host=db connect_timeout=3").set_up_timeout == 6
    assert plan("host=db connect_timeout=0").set_up_timeout == 0
