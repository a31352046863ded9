"""Who has a port that the hub wants, and how people reach what listens everywhere."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.addresses import AddressesTakenError, addresses, check_free, reached_by
from gateway.config import Overrides, load

_LISTEN = """
import socket, sys
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@contextmanager
def listening() -> Iterator[tuple[int, int]]:
    """A program that listens on a port; yields the port and its process."""
    with subprocess.Popen(
        [sys.executable, "-c", _LISTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        yield int(program.stdout.readline()), program.pid
        program.kill()


def test_all_addresses_that_are_taken_are_told_at_once_with_who_has_them_and_what_to_do() -> None:
    with listening() as (grpc, process), listening() as (front, _):
        options = Overrides(otlp_grpc=f"127.0.0.1:{grpc}", otlp_http="127.0.0.1:0", front=f"127.0.0.1:{front}")
        config = load(None, overrides=options)
        with pytest.raises(AddressesTakenError) as caught:
            check_free(config)
    first, second = str(caught.value.strerror).splitlines()
    assert f"cannot listen on 127.0.0.1:{grpc} (Address already in use by " in first
    assert f"process {process})" in first
    assert first.endswith("free that address or set receivers.otlp.protocols.grpc.endpoint")
    assert f"127.0.0.1:{front} " in second
    option, address, other_option, other_address = caught.value.instead
    assert (option, other_option) == ("--otlp-grpc", "--front")
    assert len({address, other_address, f"127.0.0.1:{grpc}", f"127.0.0.1:{front}"}) == 4
    check_free(load(None, overrides=Overrides(address, "127.0.0.1:0", other_address)))


def test_two_listeners_that_want_the_same_port_are_told_before_anything_is_made() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = Overrides(f"127.0.0.1:{port}", "127.0.0.1:0", f"127.0.0.1:{port}")
    config = load(None, overrides=options)
    with pytest.raises(AddressesTakenError, match="by another listener of this configuration") as caught:
        check_free(config)
    assert caught.value.instead[0] == "--front"


def test_no_other_port_is_proposed_for_what_another_port_would_not_help() -> None:
    config = load(None, overrides=Overrides("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"))
    check_free(config)
    away = Overrides("127.0.0.1:0", "127.0.0.1:0", "[2001:db8::1]:8085")  # an address of nobody
    api = load(None, overrides=away)
    with pytest.raises(AddressesTakenError, match=r"free that address or set extensions\.api\.endpoint") as caught:
        check_free(api)
    assert caught.value.instead == ()


def test_each_address_knows_the_option_that_changes_it() -> None:
    assert {address.endpoint: address.option for address in addresses(load(None))} == {
        "127.0.0.1:4317": "--otlp-grpc",
        "127.0.0.1:4318": "--otlp-http",
        "127.0.0.1:8085": "--front",
    }


@pytest.mark.parametrize("everywhere", ["0.0.0.0:8085", ":8085", "[::]:8085"])
def test_what_listens_everywhere_is_reached_by_addresses_of_this_machine(everywhere: str) -> None:
    reached = reached_by(everywhere)
    assert reached[-1] in ("127.0.0.1:8085", "[::1]:8085")
    assert not any(address.startswith(("0.0.0.0", "[::]", ":")) for address in reached)


def test_any_other_address_is_reached_by_itself() -> None:
    assert reached_by("192.0.2.7:8085") == ["192.0.2.7:8085"]
    assert reached_by("hub.example.com:8085") == ["hub.example.com:8085"]
