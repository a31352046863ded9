"""The load generator, a process of its own (``python -m tests.bench.loader``): sends as fast as it is answered.

It is told what to send by one line of JSON on its standard input, a `Job`; warms up, says so, waits for a line, and
sends until the time or the requests are over; its last line of output is a `Sent`. `Loader` is the other end.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from pathlib import Path

import grpc

from gateway.component import Signal
from gateway.otlp.services import SERVICES
from tests.bench.loads import Load, Protocol
from tests.bench.payloads import Payloads
from tests.support.otlp_orders import Order

_ROOT = Path(__file__).parents[2]
_TIMEOUT = 60.0
_RETRY_PAUSE = 0.1
_RETRIES = 300


@dataclass(slots=True, frozen=True)
class Job:
    """What to send: requests from number ``first`` on, ``warm_up`` of them before the clock starts.

    ``requests`` bounds the measured part instead of ``seconds`` where it is given.
    """

    signal: str
    protocol: Protocol
    endpoint: str
    records: int
    series: int
    in_flight: int
    connections: int
    gzip: bool
    order: Order
    changing: bool
    first_time_ns: int
    first: int
    warm_up: int
    seconds: float
    requests: int | None


@dataclass(slots=True)
class Sent:
    """What came of a job, the warm-up left out. ``latencies`` are in seconds, from sending to acknowledgement.

    ``refused`` counts the answers that told to try again, which the loader did, with the same bytes.
    """

    requests: int = 0
    seconds: float = 0.0
    refused: int = 0
    payload_bytes: int = 0
    cpu_seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)


class LoadError(Exception):
    """The load could not be sent, or something of it was not accepted."""


class Loader:
    """The load generator as seen from the benchmark. `start` returns when it is warm."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Loader:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.loader"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self._say(json.dumps(asdict(self._job)))
            self._hear()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def run(self) -> Sent:
        """Send the load, and return what came of it. Raises `LoadError`."""
        self._say("go")
        return Sent(**json.loads(self._hear()))

    def _say(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LoadError("the load generator failed; see its error above")
        return line


# -- the process itself --------------------------------------------------------------------------------------------

Send = Callable[[bytes], bytes | None]
"""Sends a request and returns the body of its answer; None when it is to be tried again."""


@contextlib.contextmanager
def _grpc_sender(job: Job) -> Iterator[Callable[[], Send]]:
    """Yield a function that gives each thread its way to send; connections are shared in turn."""
    service = SERVICES[Signal(job.signal)]
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    compression = grpc.Compression.Gzip if job.gzip else grpc.Compression.NoCompression
    with contextlib.ExitStack() as stack:
        channels = [
            stack.enter_context(grpc.insecure_channel(job.endpoint, options, compression))
            for _ in range(job.connections)
        ]
        stubs: Iterator[grpc.UnaryUnaryMultiCallable[bytes, bytes]] = itertools.cycle(
            [channel.unary_unary(f"/{service.grpc_name}/Export") for channel in channels]
        )

        def sender() -> Send:
            stub = next(stubs)

            def send(payload: bytes) -> bytes | None:
                try:
                    return bytes(stub(payload, timeout=_TIMEOUT))
                except grpc.RpcError as error:
                    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
                        return None
                    raise LoadError(f"{error.code().name}: {error.details()}") from error

            return send

        yield sender


@contextlib.contextmanager
def _http_sender(job: Job) -> Iterator[Callable[[], Send]]:
    """Yield a function that gives each thread a connection of its own to send on."""
    path = SERVICES[Signal(job.signal)].http_path
    headers = {"Content-Type": "application/x-protobuf"} | ({"Content-Encoding": "gzip"} if job.gzip else {})
    with contextlib.ExitStack() as stack:

        def sender() -> Send:
            connection = http.client.HTTPConnection(job.endpoint, timeout=_TIMEOUT)
            stack.callback(connection.close)

            def send(payload: bytes) -> bytes | None:
                connection.request("POST", path, gzip.compress(payload, 1) if job.gzip else payload, headers)
                response = connection.getresponse()
                body = response.read()
                if response.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
                    return None
                if response.status != HTTPStatus.OK:
                    raise LoadError(f"HTTP {response.status}: {body!r}")
                return body

            return send

        yield sender


class _Run:
    """Threads that send requests until there is no more to send; ``stop`` says when, given how many were begun."""

    def __init__(self, payloads: Payloads, job: Job, first: int, stop: Callable[[int], bool]) -> None:
        self.sent = Sent()
        self._payloads = payloads
        self._answer = SERVICES[Signal(job.signal)].response
        self._first = first
        self._stop = stop
        self._lock = threading.Lock()
        self._errors: list[Exception] = []

    def run(self, senders: list[Send]) -> Sent:
        """Send from as many threads as there are senders. Raises what one of them failed with."""
        threads = [threading.Thread(target=self._work, args=(send,)) for send in senders]
        began, cpu = time.perf_counter(), time.process_time()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]
        self.sent.seconds = time.perf_counter() - began
        self.sent.cpu_seconds = time.process_time() - cpu
        return self.sent

    def _work(self, send: Send) -> None:
        sent = self.sent
        try:
            while True:
                with self._lock:
                    if self._errors or self._stop(sent.requests):
                        return
                    number = self._first + sent.requests
                    sent.requests += 1
                payload = self._payloads.request(number)
                began = time.perf_counter()
                self._until_acknowledged(send, payload)
                latency = time.perf_counter() - began
                with self._lock:
                    sent.latencies.append(latency)
                    sent.payload_bytes += len(payload)
        except Exception as error:
            self._errors.append(error)

    def _until_acknowledged(self, send: Send, payload: bytes) -> None:
        for _ in range(_RETRIES):
            answer = send(payload)
            if answer is None:
                self.sent.refused += 1
                time.sleep(_RETRY_PAUSE)
            elif answer and self._answer.FromString(answer).HasField("partial_success"):
                raise LoadError(f"not all was accepted: {self._answer.FromString(answer)}")
            else:
                return
        raise LoadError(f"the gateway refused a request {_RETRIES} times")


def job_for(load: Load, endpoint: str, first_time_ns: int, *, first: int, warm_up: int, workers: int) -> Job:
    """Make a job without an end, for `dataclasses.replace` to bound."""
    return Job(
        signal=load.signal.value,
        protocol=load.protocol,
        endpoint=endpoint,
        records=load.records,
        series=load.series,
        in_flight=load.in_flight,
        # The kernel spreads connections over workers by chance: with a few for each, none stays idle.
        connections=load.connections or (1 if workers == 1 else min(4 * workers, load.in_flight)),
        gzip=load.gzip,
        order=load.order,
        changing=load.changing,
        first_time_ns=first_time_ns,
        first=first,
        warm_up=warm_up,
        seconds=0,
        requests=None,
    )


def main() -> None:
    """Do the job that standard input names."""
    job = Job(**json.loads(sys.stdin.readline()))
    payloads = Payloads(Signal(job.signal), job.records, job.series, job.first_time_ns, job.order, job.changing)
    with (_grpc_sender if job.protocol == "grpc" else _http_sender)(job) as sender:
        senders = [sender() for _ in range(job.in_flight)]
        _Run(payloads, job, job.first, lambda begun: begun >= job.warm_up).run(senders)
        print("ready", flush=True)
        if not sys.stdin.readline():
            return
        deadline = time.perf_counter() + job.seconds
        stop: Callable[[int], bool]
        if job.requests is None:
            stop = lambda _: time.perf_counter() >= deadline  # noqa: E731
        else:
            bound = job.requests
            stop = lambda begun: begun >= bound  # noqa: E731
        sent = _Run(payloads, job, job.first + job.warm_up, stop).run(senders)
        print(json.dumps(asdict(sent)), flush=True)


if __name__ == "__main__":
    try:
        main()
    except (LoadError, OSError) as error:
        sys.exit(f"load generator: {error}")
