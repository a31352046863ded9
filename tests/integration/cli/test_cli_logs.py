"""``obs-hub logs``: what came in over OTLP, at a terminal; from the store, and from Loki besides."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from click.testing import CliRunner
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from gateway.cli import main
from tests.integration.cli.processes import PATIENCE, ROOT, HubProcess, environment, obs_hub, until
from tests.support.hubs import Client
from tests.support.loki_queries import LokiStandIn, loki_stand_in

Command = Callable[..., "CompletedProcess[str]"]

SECOND = 10**9
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def request(*records: dict[str, Any], service: str = "shop", host: str = "nas") -> bytes:
    """An OTLP request: of each record the body, and whatever else is given."""
    message = ExportLogsServiceRequest()
    owner = message.resource_logs.add()
    for key, value in (("service.name", service), ("host.name", host)):
        owner.resource.attributes.add(key=key).value.string_value = value
    scope = owner.scope_logs.add()
    for fields in records:
        body, attributes = fields.pop("body"), fields.pop("attributes", {})
        record = scope.log_records.add(**{"time_unix_nano": time.time_ns(), **fields})
        if isinstance(body, dict):
            for key, value in body.items():
                record.body.kvlist_value.values.add(key=key).value.double_value = value
        else:
            record.body.string_value = body
        for key, value in attributes.items():
            record.attributes.add(key=key).value.string_value = value
    return message.SerializeToString()


@pytest.fixture(scope="module")
def client(hub: HubProcess) -> Iterator[Client]:
    """A client of the hub's gRPC receiver."""
    import grpc

    with grpc.insecure_channel(hub.running.endpoints["otlp grpc"]) as channel:
        yield Client(channel)


@pytest.fixture(scope="module")
def stored(client: Client) -> int:
    """When the newest of a few records was made."""
    now = time.time_ns() // SECOND * SECOND
    trace = bytes.fromhex(TRACE)
    client.send(
        "logs",
        request(
            {"body": "started", "severity_number": 9, "time_unix_nano": now - 7200 * SECOND},
            {"body": "cart loaded", "severity_number": 5, "time_unix_nano": now - 5 * SECOND},
            {
                "body": "payment timed out", "severity_number": 17, "severity_text": "ERR", "trace_id": trace,
                "span_id": b"12345678", "attributes": {"order.id": "42"}, "time_unix_nano": now - 4 * SECOND,
            },
            {
                "body": {"total": 12.5}, "event_name": "order.placed", "severity_number": 9,
                "attributes": {"customer": "x y"}, "time_unix_nano": now - 3 * SECOND,
            },
        ),
    )  # fmt: skip
    client.send(
        "logs",
        request(
            {"body": "\x1b]0;owned\x07\x1b[31mred\x1b[0m\r\nSECOND LINE", "time_unix_nano": now - 2 * SECOND},
            {"body": "disk almost full", "severity_text": "Warning", "time_unix_nano": now - SECOND},
            service="backup",
            host="pi",
        ),
    )
    return now


@pytest.fixture
def shown(hub: HubProcess, stored: int) -> Callable[..., list[str]]:
    """Run ``obs-hub logs``, without a process of its own, and return its lines without their times.

    Where there are none, and only then, standard error says so.
    """

    def run(options: str = "") -> list[str]:
        done = CliRunner().invoke(main, ["logs", "--data-dir", str(hub.data_dir), *shlex.split(options)])
        assert (done.exit_code, "Nothing to show" in done.stderr) == (0, not done.stdout)
        return [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ", "", line) for line in done.stdout.splitlines()]

    return run


CART = "DEBUG nas/shop cart loaded"
PAYMENT = "ERR   nas/shop payment timed out"
ORDER = 'INFO  nas/shop order.placed {"total":12.5} customer="x y"'
RED = [r"-     pi/backup \x1b]0;owned\x07red", "    SECOND LINE"]
DISK = "Warni pi/backup disk almost full"


def test_records_of_the_last_hour_are_shown_oldest_first_and_harmless(shown: Callable[..., list[str]]) -> None:
    assert shown() == [CART, PAYMENT, ORDER, *RED, DISK]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--since 3h", ["INFO  nas/shop started", CART, PAYMENT, ORDER, *RED, DISK]),
        ("--since 3h --until 1h", ["INFO  nas/shop started"]),
        ("--service backup", [*RED, DISK]),
        ("--service backup --service shop --host nas", [CART, PAYMENT, ORDER]),
        ("--severity warn", [PAYMENT, DISK]),
        ("--severity WARNING", [PAYMENT, DISK]),
        ("--severity fatal", []),
        ("--grep 'time[ds]? (in|out)'", [PAYMENT]),
        ("--grep DISK", []),
        ("--grep DISK -i", [DISK]),
        ("--grep '\"total\"'", [ORDER]),
        ("--events", [ORDER]),
        ("--event order.placed", [ORDER]),
        ("--event order", []),
        (f"--trace {TRACE.upper()}", [PAYMENT]),
        ("-a order.id=42", [PAYMENT]),
        ("-a order.id=42 -a host.name=pi", []),
        ("-a host.name=pi -n 1", [DISK]),
        ("--limit 2", [*RED, DISK]),
        ("--limit 0 --service shop", [CART, PAYMENT, ORDER]),
        ("--limit all --service shop", [CART, PAYMENT, ORDER]),
        ('--service "x\' OR true --"', []),
        ('-a "x\' OR true --=%(start)s"', []),
        (f"--trace {TRACE} --show-attributes", [f"{PAYMENT} order.id=42 trace_id={TRACE}"]),
    ],
)
def test_filters_narrow_what_is_shown(shown: Callable[..., list[str]], options: str, expected: list[str]) -> None:
    assert shown(options) == expected


def test_records_of_a_clock_that_is_ahead_are_shown(client: Client, shown: Callable[..., list[str]]) -> None:
    client.send(
        "logs", request({"body": "tomorrow?", "time_unix_nano": time.time_ns() + 600 * SECOND}, service="ahead")
    )
    assert shown("--service ahead") == ["-     nas/ahead tomorrow?"]
    assert shown("--service ahead --until 0s") == []


def test_json_is_an_object_a_line_with_everything_in_it(on_hub: Command, stored: int) -> None:
    payment, order = map(json.loads, on_hub("logs -o json --service shop --limit 2").stdout.splitlines())
    assert payment["time_unix_nano"] == stored - 4 * SECOND
    assert payment["time"].endswith(".000000000Z")
    assert (payment["trace_id"], payment["span_id"]) == (TRACE, b"12345678".hex())
    assert (payment["severity"], payment["severity_number"], payment["source"]) == ("ERR", 17, "store")
    assert payment["resource"] == {"host.name": "nas", "service.name": "shop"}
    assert (order["body"], order["event_name"]) == ({"total": 12.5}, "order.placed")


def test_colours_are_for_terminals_and_for_those_who_ask(on_hub: Command, stored: int) -> None:
    assert "\x1b" not in on_hub("logs").stdout
    assert "\x1b[31m" in on_hub("logs --color always").stdout


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ("--grep (", 1, "--grep: invalid regular expression"),
        ("--since never", 2, "15m, 1h30m or 7d"),
        ("--since 1h --until 2h", 2, "--since is not before --until"),
        ("--service \udcff", 2, "is no UTF-8"),
        ("--trace abc", 2, "32 hexadecimal digits"),
        ("-a novalue", 2, "'novalue' is not KEY=VALUE"),
        ("--follow --until 1m", 2, "leave --until out"),
        ("--limit many", 2, "'many' is neither a number nor all"),
        ("--severity loud", 2, "'loud' is not one of"),
        ("--late soon", 2, "expected a duration"),
        ("--source loki", 2, "give --loki URL"),
        ("--loki http://127.0.0.1:1", 1, "--source store or --source loki reads one alone"),
    ],
)
def test_what_cannot_be_shown_is_said(hub: HubProcess, options: str, code: int, said: str) -> None:
    done = CliRunner().invoke(main, ["logs", "--data-dir", str(hub.data_dir), *shlex.split(options)])
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr


def test_without_a_hub_it_says_how_to_start_one(tmp_path: Path) -> None:
    done = obs_hub("logs", "--data-dir", tmp_path)
    assert done.returncode == 1
    assert "obs-hub up" in done.stderr


def test_a_reader_that_has_seen_enough_ends_it_silently(hub: HubProcess, stored: int) -> None:
    command = f"{sys.executable} -m gateway logs --limit 0 --since 3h --data-dir {hub.data_dir} | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment(),
        timeout=PATIENCE,
    )
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


class Following:
    """``obs-hub logs --follow`` in a process of its own, read as it writes."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "logs", "--follow", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment(),
            # As a terminal has it: a shell's background jobs, and what they start, ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines += iter(self.process.stdout.readline, "")

    def bodies(self) -> list[str]:
        return [json.loads(line)["body"] for line in self.lines.copy()]

    def interrupt(self) -> str:
        """Press Ctrl-C; return what it wrote to standard error."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(PATIENCE) == 130
        self._reader.join()
        assert self.process.stderr is not None
        return self.process.stderr.read()


@contextmanager
def following(hub: HubProcess, *arguments: str) -> Iterator[Following]:
    follower = Following("-o", "json", "--data-dir", str(hub.data_dir), *arguments)
    try:
        yield follower
    finally:
        follower.process.kill()
        follower.process.wait()
        for pipe in (follower.process.stdout, follower.process.stderr):
            assert pipe is not None
            follower._reader.join()
            pipe.close()


def test_lines_that_are_sent_while_it_follows_are_each_printed_once(hub: HubProcess, client: Client) -> None:
    client.send("logs", request({"body": "the first"}, service="follow"))
    with following(hub, "--service", "follow") as follower:
        until(lambda: "the first" in follower.bodies())

        def send(sender: int) -> None:
            for n in range(40):
                now = time.time_ns()
                # Every third comes late and out of order, and in every fifth request two are the same.
                late = 20 * SECOND if n % 3 == 0 else 0
                bodies = [f"{sender}/{n}/{k}" for k in range(5)]
                records = [{"body": body, "time_unix_nano": now - late - k} for k, body in enumerate(bodies)]
                if n % 5 == 0:
                    records.append({"body": f"{sender}/{n}/0", "time_unix_nano": now - late})
                client.send("logs", request(*records, service="follow"))
                time.sleep(0.05)

        senders = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        wanted = Counter({"the first": 1})
        for sender in range(4):
            for n in range(40):
                wanted.update(f"{sender}/{n}/{k}" for k in range(5))
                if n % 5 == 0:
                    wanted[f"{sender}/{n}/0"] += 1
        until(lambda: len(follower.lines) >= wanted.total())
        client.send("logs", request({"body": "the last"}, service="follow"))
        until(lambda: "the last" in follower.bodies())
        wanted["the last"] = 1
        assert Counter(follower.bodies()) == wanted
        assert follower.interrupt() == ""


def test_following_begins_with_the_newest_of_before(hub: HubProcess, client: Client) -> None:
    now = time.time_ns()
    # Some of them older than a late record may be, some not: the two are read apart.
    records = [{"body": str(n), "time_unix_nano": now - (40 - n) * 4 * SECOND} for n in range(40)]
    client.send("logs", request(*records, service="before"))
    for options, first in ((("--limit", "30"), 10), ((), 30), (("--since", "1h"), 0), (("--limit", "all"), 0)):
        with following(hub, "--service", "before", *options) as follower:
            until(lambda: "39" in follower.bodies())
            assert follower.bodies() == [str(n) for n in range(first, 40)]


@pytest.mark.parametrize("options", [("--limit", "0"), ("-n0", "--since", "1h")])
def test_following_with_a_limit_of_none_shows_only_what_comes(
    hub: HubProcess, client: Client, options: Sequence[str]
) -> None:
    """As ``tail -f -n 0`` does."""
    service = f"tail{len(options)}"
    client.send("logs", request({"body": "before"}, service=service))
    with following(hub, "--service", service, *options) as follower:
        sent = itertools.count()

        def arrived() -> list[str]:  # it does not say when it has begun to look
            client.send("logs", request({"body": f"after {next(sent)}"}, service=service))
            return follower.bodies()

        assert until(arrived)[0].startswith("after ")


@pytest.fixture
def loki() -> Iterator[LokiStandIn]:
    with loki_stand_in() as loki:
        yield loki


def test_logs_of_loki_and_events_of_the_store_are_one(on_hub: Command, client: Client, loki: LokiStandIn) -> None:
    now = time.time_ns()
    client.send("logs", request({"body": "in both", "event_name": "e", "time_unix_nano": now - 2}, service="two"))
    loki.push(now - 3, "only in Loki", service_name="two", severity_text="WARN", severity_number="13")
    loki.push(now - 2, "in both", service_name="two", event_name="e")
    loki.push(now - 1, "last\x1b[2J", service_name="two")

    def bodies(*options: str) -> list[tuple[str, str]]:
        done = on_hub("logs -o json --service two --loki", loki.url, *options)
        assert (done.returncode, done.stderr) == (0, "")
        return [(record["body"], record["source"]) for record in map(json.loads, done.stdout.splitlines())]

    both = [("only in Loki", "loki"), ("in both", "store"), ("last\x1b[2J", "loki")]
    assert bodies() == bodies("--limit", "0") == both
    assert bodies("--limit", "2") == both[1:]
    assert bodies("--source", "store") == [("in both", "store")]
    assert bodies("--source", "loki") == [(body, "loki") for body, _ in both]
    assert loki.queries[0]["query"] == '{service_name=~"two"}'
    assert on_hub("logs --service two --loki", loki.url).stdout.endswith("two last\\x1b[2J\n")


def test_loki_is_followed_and_may_go_away(hub: HubProcess, client: Client, loki: LokiStandIn) -> None:
    with following(hub, "--service", "away", "--loki", loki.url) as follower:
        loki.push(time.time_ns(), "one", service_name="away")
        until(lambda: follower.bodies() == ["one"])
        loki.failure = (503, "starting")
        asked = len(loki.queries)
        until(lambda: len(loki.queries) > asked + 1)
        loki.push(time.time_ns(), "two", service_name="away")
        client.send("logs", request({"body": "three"}, service="away"))
        until(lambda: follower.bodies() == ["one", "three"])
        loki.failure = None
        until(lambda: len(follower.bodies()) == 3)
        assert sorted(follower.bodies()) == ["one", "three", "two"]
        said = follower.interrupt()
    assert said == f"Loki at {loki.url} answers 503 Service Unavailable: starting; trying again\n"
