"""What every fault test is made of: a gateway that can be killed, clients that keep count, and the proof from SQL.

Clients behave as OTLP clients do: they send again the identical bytes when they get an answer that allows it, or none.
Each record carries a number of its own: a data point in its value, a log record in its body, a span in its name. So the
store can be asked for each.
"""

from __future__ import annotations

import itertools
import json
import os
import signal as signals
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import psycopg
import yaml
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.component import Signal
from gateway.data_paths import spools
from gateway.pipeline.spool import status
from tests.integration.cli.processes import PATIENCE, HubProcess, Hubs, config_text, free_port
from tests.support import fork_server, stacks
from tests.support.waiting import pauses, until_true

ROUNDS = int(os.environ.get("OBSHUB_TEST_FAULT_ROUNDS", "1"))
"""How many times as many rounds as by default."""
SUMMARY = os.environ.get("OBSHUB_TEST_FAULT_SUMMARY")
"""A file to which each proof adds a line of JSON."""

RECORDS = 20
METHODS = {
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
}
METHOD = METHODS[Signal.METRICS]
_RETRYABLE = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}
_QUICK: dict[str, object] = {
    "timeout": "1s",
    "slow_after": "200ms",
    "retry_on_failure": {"initial_interval": "50ms", "max_interval": "300ms"},
}
# Not grpc.min_reconnect_backoff_ms: that bounds an attempt to connect, and on a machine under load none would succeed.
_CHANNEL = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
)


TEXT = "café \N{SNOWMAN} 日本"
"""What log records and spans carry beside their number."""

_STORED = """
SELECT number, count(*), bool_and(as_sent), min(unix_nano), max(unix_nano) FROM (
    SELECT int_value, true, time, time_ns FROM number_point WHERE int_value IS NOT NULL
    UNION ALL
    SELECT body::bigint, attributes->>'text' = %(text)s, time, time_ns FROM log WHERE body ~ '^[0-9]+$'
    UNION ALL
    SELECT name::bigint, attributes->>'text' = %(text)s, time, time_ns FROM span WHERE name ~ '^[0-9]+$'
) AS records (number, as_sent, time, ns),
LATERAL (SELECT (extract(epoch FROM time) * 1e9)::bigint + coalesce(ns, 0)) AS at (unix_nano)
GROUP BY number
"""


def until(
    condition: Callable[[], Any],
    what: str = "it",
    patience: float = PATIENCE,
    *,
    why: Callable[[], str] = lambda: "",
) -> Any:
    """Wait until something holds. After too long a test fails with ``why``, too."""
    return until_true(condition, lambda: f"{what} did not come true{why()}", patience)


_ACTIVITY = """
SELECT a.pid, a.application_name, a.state, a.wait_event_type, a.wait_event, a.backend_start, a.xact_start,
    a.state_change, pg_blocking_pids(a.pid), left(regexp_replace(a.query, '\\s+', ' ', 'g'), 200),
    (SELECT array_agg(format('%s %s%s', l.relation::regclass, l.mode, CASE WHEN l.granted THEN '' ELSE ' (waits)' END))
     FROM pg_locks l WHERE l.pid = a.pid AND l.relation IS NOT NULL)
FROM pg_stat_activity a WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() ORDER BY a.backend_start
"""


def state_of(*gateways: Gateway, dsn: str | None = None) -> str:
    """What tells why gateways do not go on: what the server's processes do and lock, stacks and the logs."""
    parts = ["the database:"]
    try:
        with psycopg.connect(dsn or gateways[0].dsn, connect_timeout=10, autocommit=True) as connection:
            parts += [" | ".join(map(str, row)) for row in connection.execute(_ACTIVITY)]
    except psycopg.Error as error:
        parts.append(str(error))
    for each in gateways:
        parts += [f"a gateway, with {each.spooled} bytes in its spools:", each.stacks(), each.log()[-20_000:]]
    return "\n" + "\n".join(parts)


class Gateway:
    """A gateway on one data directory and one port, through all its lives; without a dsn with a database of its own.

    ``processors`` are defined with these settings; ``processed`` names those of a signal, in their order.
    """

    def __init__(
        self,
        hubs: Hubs,
        dsn: str | None = None,
        *,
        name: str = "hub",
        topology: str | None = None,
        delivery: dict[str, object] | None = None,
        exporters: dict[str, dict[str, object]] | None = None,
        routes: dict[str, list[str]] | None = None,
        processors: dict[str, dict[str, object]] | None = None,
        processed: dict[str, list[str]] | None = None,
        **timescale: object,
    ) -> None:
        self._hubs = hubs
        self._dsn = dsn
        self._name = name
        self._topology = topology or ("fan-out" if exporters else None)
        self._options: tuple[str, ...] = ()
        self.port, self.http_port = free_port(), free_port()
        settings = _QUICK | ({"dsn": dsn} if dsn else {}) | timescale
        service = {"delivery": delivery} if delivery else None
        self._config = config_text(
            grpc=self.port,
            http=self.http_port,
            timescale=settings,
            service=service,
            exporters={name: _QUICK | more for name, more in (exporters or {}).items()},
            routes=routes,
        )
        if processors:
            config = yaml.safe_load(self._config) | {"processors": processors}
            for signal, names in (processed or {}).items():
                config["service"]["pipelines"][signal]["processors"] = names
            self._config = yaml.safe_dump(config)
        self.process: HubProcess | None = None
        self._own_dsn: str | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def hub(self) -> HubProcess:
        assert self.process is not None
        return self.process

    @property
    def dsn(self) -> str:
        dsn = self._dsn or self._own_dsn
        assert dsn is not None
        return dsn

    @property
    def topology(self) -> str:
        """What the table of faults calls the way in which this gateway runs."""
        return self._topology or ("`--workers 2`" if "--workers" in self._options else "one process")

    @property
    def dead(self) -> bool:
        return self.hub.process.poll() is not None

    @property
    def spooled(self) -> int:
        """Bytes in the spools."""
        return self.spooled_for(None)

    def spooled_for(self, exporter: str | None) -> int:
        """Bytes in the spool of one exporter, or of all."""
        found = spools(self.hub.data_dir)
        return sum(status(directory).size for name, directory in found if exporter in (None, name))

    def start(self, *options: str, wait: bool = True, **variables: str) -> Gateway:
        self._options = options
        self.process = self._hubs.start(self._config, *options, name=self._name, **variables)
        if wait:
            self.process.until_ready()
            self._own_dsn = self.process.running.dsn
        return self

    def kill(self) -> None:
        """End it without a chance to do anything about it."""
        self.hub.process.kill()
        self.hub.process.wait(PATIENCE)

    def kill_all(self) -> None:
        """End all of its processes in the same moment."""
        os.killpg(self.hub.pid, signals.SIGKILL)
        self.until_dead()

    def until_dead(self) -> None:
        until(lambda: self.dead, "the end of the gateway")

    def log(self) -> str:
        return self.hub.stderr

    def stacks(self) -> str:
        """Where the threads and tasks of its processes are, as far as they say so within a few seconds."""
        if not isinstance(self.hub.process, fork_server.ForkedProcess) or self.dead:
            return "no stacks: it has ended, or was not forked"
        so_far = len(self.log())
        pids = [self.hub.pid, *(worker.pid for worker in self.hub.workers)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, stacks.SIGNAL)
        with suppress(AssertionError):
            until(lambda: self.log()[so_far:].count(stacks.END) >= len(pids), "the stacks", 20)
        return self.log()[so_far:]


class Load:
    """Clients that send again and again, and know what was acknowledged. Each sends one signal, all signals in turn.

    ``timeout`` is after how many seconds a client takes a request for unanswered. ``size`` is how many bytes each
    request has at least. ``pause`` is how many seconds a client rests once it has an answer, and ``idle`` how many more
    while the test waits for something else than answers.
    """

    _numbers = itertools.count(1_000_000)
    _lock = threading.Lock()

    def __init__(
        self,
        endpoints: Sequence[str],
        clients: int,
        timeout: float,
        records: int,
        signals: Sequence[Signal],
        *,
        events: bool = False,
        size: int = 0,
        pause: float = 0,
        idle: float = 0,
        frames: bool = False,
        of: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self._of = of
        self._frames = frames
        self._pause = pause
        self._idle = idle
        self._awaited = threading.Event()
        self._events = events
        self._size = size
        self._timeout = timeout
        self._records = records
        self._signals = signals
        self._stop = threading.Event()
        self._finish = threading.Event()
        self.sent: list[int] = []
        self.acknowledged: list[int] = []
        self.times: dict[int, int] = {}
        self.answers: Counter[str] = Counter()
        self.without_retry_info = 0
        self.final: list[str] = []
        self._requests = 0
        self._threads = [
            threading.Thread(target=self._client, args=(endpoints[number % len(endpoints)], number), daemon=True)
            for number in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def requests(self) -> int:
        """How many requests were acknowledged."""
        return self._requests

    def until_acknowledged(self, more: int, unless: Callable[[], bool] = lambda: False) -> None:
        """Wait until so many more requests are acknowledged."""
        goal = self._requests + more
        self._awaited.set()
        until(lambda: self._requests >= goal or unless(), f"{more} more acknowledgements ({self.answers})")
        self._awaited.clear()

    def stop(self) -> None:
        """Stop at once. What is not acknowledged now never will be."""
        self._stop.set()
        self._awaited.set()
        self._join()

    def finish(self) -> None:
        """Send nothing new, and send again what has not been acknowledged until it is."""
        self._finish.set()
        self._awaited.set()
        self._join()

    def _join(self) -> None:
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"a client still tries: {self.answers}"

    def _client(self, endpoint: str, number: int) -> None:
        with grpc.insecure_channel(endpoint, _CHANNEL) as channel:
            signal = self._signals[number % len(self._signals)]
            call = channel.unary_unary(METHODS[signal])
            while not (self._stop.is_set() or self._finish.is_set()):
                with self._lock:
                    ids = list(itertools.islice(filter(self._of, self._numbers), self._records))
                    self.sent += ids
                series, now = f"client-{number}", time.time_ns()
                if self._events:
                    payload = log_request(ids, series)
                else:
                    self.times |= dict.fromkeys(ids, now)
                    payload = request(ids, series, now, signal=signal, size=self._size, frames=self._frames)
                if self._send(call, payload):
                    with self._lock:
                        self.acknowledged += ids
                        self._requests += 1
                self._awaited.wait(self._idle)
                time.sleep(self._pause)

    def _send(self, call: Any, payload: bytes) -> bool:
        pause = pauses()
        while not self._stop.is_set():
            try:
                call(payload, timeout=self._timeout)
            except grpc.RpcError as error:
                code, has_retry_info = error.code(), retry_info(error) is not None
                with self._lock:
                    self.answers[code.name] += 1
                if code is grpc.StatusCode.RESOURCE_EXHAUSTED and not has_retry_info:
                    self.without_retry_info += 1
                elif code not in _RETRYABLE and code is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    self.final.append(f"{code.name}: {error.details()}")
                    return False
                time.sleep(next(pause))
            else:
                with self._lock:
                    self.answers["OK"] += 1
                return True
        return False


def request(
    ids: Sequence[int],
    sender: str = "test",
    at: int | None = None,
    *,
    signal: Signal = Signal.METRICS,
    size: int = 0,
    frames: bool = False,
) -> bytes:
    """Serialize records with the given numbers, in so many bytes at least.

    With ``frames`` each data point is of a series of its own, so that those of a request are stored together as a frame
    once they come again; without, they are of one series, and rows.
    """
    now = time.time_ns() if at is None else at
    message: Any
    match signal:
        case Signal.METRICS:
            message = ExportMetricsServiceRequest()
            owner = message.resource_metrics.add()
            metric = owner.scope_metrics.add().metrics.add(name="faults.record")
            for place, number in enumerate(ids):
                point = metric.gauge.data_points.add(time_unix_nano=now, as_int=number)
                if frames:
                    point.attributes.add(key="place").value.int_value = place
        case Signal.LOGS:
            message = ExportLogsServiceRequest()
            owner = message.resource_logs.add()
            scope_logs = owner.scope_logs.add()
            for number in ids:
                record = scope_logs.log_records.add(time_unix_nano=now)
                record.body.string_value = str(number)
                record.attributes.add(key="text").value.string_value = TEXT
        case Signal.TRACES:
            message = ExportTraceServiceRequest()
            owner = message.resource_spans.add()
            scope_spans = owner.scope_spans.add()
            for number in ids:
                own = number.to_bytes(8, "big")
                span = scope_spans.spans.add(
                    trace_id=own * 2, span_id=own, name=str(number), start_time_unix_nano=now, end_time_unix_nano=now
                )
                span.attributes.add(key="text").value.string_value = TEXT
    owner.resource.attributes.add(key="service.name").value.string_value = sender
    owner.schema_url = "." * size
    payload: bytes = message.SerializeToString()
    return payload


def log_request(ids: Sequence[int], service: str = "test") -> bytes:
    """Serialize log records whose bodies are the given numbers; those of even numbers are events."""
    message = ExportLogsServiceRequest()
    resource = message.resource_logs.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    scope = resource.scope_logs.add()
    now = time.time_ns()
    for number in ids:
        record = scope.log_records.add(time_unix_nano=now, event_name="" if number % 2 else "faults.record")
        record.body.string_value = str(number)
    payload: bytes = message.SerializeToString()
    return payload


def retry_info(error: Any) -> RetryInfo | None:
    """Return the ``RetryInfo`` that came with a gRPC error."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in Status.FromString(value).details:
                info = RetryInfo()
                if detail.Unpack(info):
                    return info
    return None


@contextmanager
def load(
    *gateways: Gateway,
    clients: int = 4,
    timeout: float = 3.0,
    records: int = RECORDS,
    signals: Sequence[Signal] = tuple(Signal),
    events: bool = False,
    size: int = 0,
    pause: float = 0.01,
    idle: float = 0.05,
    frames: bool = False,
    of: Callable[[int], bool] = lambda _: True,
) -> Iterator[Load]:
    """Run clients for the length of a block; they stop at its end, if not before.

    With ``events`` they send logs, every other of which is an event. ``frames`` is as for `request`. ``of`` tells which
    numbers are used. The default of ``pause`` has requests under way all the time and leaves most of the cores to other
    tests; 0 is the load that takes all of them. ``idle`` is how many seconds more each client rests while the test
    waits for something else than acknowledgements, such as a start: what it sends then is only to be there. It is not
    for tests in which something happens at random moments, nor for the load that takes all of the cores.
    """
    if events:
        signals = (Signal.LOGS,)
    running = Load(
        [each.endpoint for each in gateways],
        clients,
        timeout,
        records,
        signals,
        events=events,
        size=size,
        pause=pause,
        idle=idle if pause else 0,
        frames=frames,
        of=of,
    )
    try:
        yield running
    finally:
        running.stop()


def until_delivered(running: Load, *gateways: Gateway, spool: str | None = None, dsn: str | None = None) -> None:
    """Wait until what is acknowledged by now is delivered, while the clients go on.

    That is so when the spools are empty; on a busy machine clients fill them as fast as they empty, so the store is
    asked as well. ``spool`` and ``dsn`` are as for `prove`.
    """
    acknowledged = set(running.acknowledged)

    def delivered() -> bool:
        if not sum(each.spooled_for(spool) for each in gateways):
            return True
        time.sleep(0.2)
        with suppress(psycopg.Error):
            return acknowledged <= stored(dsn or gateways[0].dsn).keys()
        return False

    until(delivered, "what was acknowledged being delivered", why=lambda: state_of(*gateways, dsn=dsn))


def stored(dsn: str) -> Counter[int]:
    """How often the store has each number, as a record of whatever signal."""
    return Counter({number: count for number, count, *_ in _stored_records(dsn)})


def _stored_records(dsn: str) -> list[tuple[int, int, bool, int, int]]:
    """Each number, how often it is there, whether its text is as it was sent, and its first and last time."""
    # In memory alone: the disk of the store may be too full for temporary files.
    options = "-c work_mem=1GB -c lock_timeout=0"
    with psycopg.connect(dsn, connect_timeout=10, options=options, client_encoding="utf8") as connection:
        return connection.execute(_STORED, {"text": TEXT}).fetchall()


def stored_events(dsn: str) -> Counter[int]:
    """How often the store has each log record."""
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        return Counter(int(body) for (body,) in connection.execute("SELECT body FROM log"))


def prove(
    fault: str,
    running: Load,
    *gateways: Gateway,
    rounds: int = 1,
    read: Callable[[], Counter[int]] | None = None,
    of: Callable[[int], bool] = lambda _: True,
    spool: str | None = None,
    dsn: str | None = None,
) -> None:
    """Wait until the spools are empty; each acknowledged number must be stored once, and any other at most once.

    In the store, each has to be as it was sent, too. ``dsn`` is where the store is asked, that of the first gateway by
    default; ``read`` looks elsewhere than there, and ``of`` tells which numbers belong there. ``spool``: only that
    exporter's has to be empty.
    """
    changed: set[int] = set()

    def look() -> Counter[int]:
        if read is not None:
            return read()
        records = _stored_records(dsn or gateways[0].dsn)
        changed.clear()
        for number, _, as_sent, first, last in records:
            at = running.times.get(number)
            if at is not None and not (as_sent and first == last == at):
                changed.add(number)
        return Counter({number: count for number, count, *_ in records})

    until(
        lambda: not sum(each.spooled_for(spool) for each in gateways),
        "the spools being empty",
        why=lambda: state_of(*gateways, dsn=dsn),
    )
    found: Counter[int] = Counter()
    problem: psycopg.Error | None = None
    acknowledged, sent = set(filter(of, running.acknowledged)), set(running.sent)

    def all_there() -> bool:
        nonlocal found, problem
        try:
            found, problem = Counter({number: count for number, count in look().items() if number in sent}), None
        except psycopg.Error as error:
            problem = error
        return all(number in found for number in acknowledged)

    with suppress(AssertionError):
        until(all_there, "every acknowledged record being stored")
    lost = [number for number in acknowledged if number not in found]
    twice = [number for number, count in found.items() if count > 1]
    line = {
        "fault": fault,
        "topology": "two gateways" if len(gateways) > 1 else gateways[0].topology,
        "rounds": rounds,
        "sent": len(sent),
        "acknowledged": len(acknowledged),
        "found": len(found),
        "lost": len(lost),
        "duplicated": len(twice),
        "changed": len(changed) if read is None and running.times else None,
    }
    if SUMMARY:
        with Path(SUMMARY).open("a") as file:
            file.write(json.dumps(line) + "\n")
    assert not lost, (
        f"{line}; first lost {sorted(lost)[:5]}; the last look: {problem or 'succeeded'}\n{gateways[0].log()[-6000:]}"
    )
    assert not twice, f"{line}; {sorted(twice)[:5]}\n{gateways[0].log()[-6000:]}"
    assert not changed, f"{line}; {sorted(changed)[:5]}"
    assert not running.final, running.final[:3]
    assert acknowledged, "nothing was acknowledged, so nothing is proved"
