"""Measures loads: the gateway and the limit in turn, on one server."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.bench.database import Store, describe_server, fresh_database, make_store
from tests.bench.limit import Limit
from tests.bench.loader import Loader, Sent, job_for
from tests.bench.loads import Load, Options
from tests.bench.payloads import Payloads, first_time
from tests.bench.subject import Subject

_WARM_UP = 8
_SETTLE_SECONDS = 5.0
_CPU_RESOLUTION = 0.01
"""The kernel counts CPU time in ticks of this many seconds; a tiny run may use less than one."""

Say = Callable[[str], None]
"""Is told what is being done."""


class RowsLostError(Exception):
    """The store does not hold what the gateway acknowledged."""


@dataclass(slots=True, frozen=True)
class Round:
    """One measurement of the gateway, and of the limit after it."""

    records: int
    seconds: float
    committed_per_second: float
    limit_per_second: float
    cpu_seconds: float
    loader_cpu_seconds: float
    batches_per_commit: float


@dataclass(slots=True)
class Result:
    """What came of a load: medians over its rounds, latencies of all of them together."""

    load: Load
    server: str
    rounds: list[Round] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list, repr=False)
    requests: int = 0
    refused: int = 0
    acknowledged: int = 0
    rows: int = 0
    peak_memory: float = 0.0
    bytes_per_record: float = 0.0

    def median(self, value: Callable[[Round], float]) -> float:
        """Return the median over the rounds."""
        return statistics.median(map(value, self.rounds))

    @property
    def records_per_second(self) -> float:
        """Acknowledged records a second, from the first request sent to the last answer."""
        return self.median(lambda its: its.records / its.seconds)

    @property
    def requests_per_second(self) -> float:
        """Acknowledged requests a second."""
        return self.records_per_second * self.requests / sum(its.records for its in self.rounds)

    @property
    def committed_per_second(self) -> float:
        """Records committed a second, by the server's clock."""
        return self.median(lambda its: its.committed_per_second)

    @property
    def limit_per_second(self) -> float:
        """Records a second of the bare COPY."""
        return self.median(lambda its: its.limit_per_second)

    @property
    def ratio(self) -> float:
        """The committed rate in terms of the bare COPY's, each round for itself."""
        return self.median(lambda its: its.committed_per_second / its.limit_per_second)

    @property
    def records_per_cpu_second(self) -> float:
        """Records for each CPU second of the gateway."""
        return self.median(lambda its: its.records / its.cpu_seconds)

    def latency(self, part: float) -> float:
        """Return the acknowledgement latency, in seconds, that this part of the requests did not exceed."""
        return sorted(self.latencies)[min(int(len(self.latencies) * part), len(self.latencies) - 1)]


@dataclass(slots=True, frozen=True)
class Idle:
    """The gateway with nothing to do: resident memory in MiB, and the part of one core."""

    memory: float
    cpu_share: float


@dataclass(slots=True, frozen=True)
class Report:
    """All that was measured."""

    options: Options
    load_average: float
    """Of the minute before: what else the machine was doing."""
    results: list[Result]
    small: Result | None
    regimes: list[Result]
    idle: Idle | None

    @property
    def server(self) -> str:
        """What the store was, the same for all loads."""
        return self.results[0].server


def run(options: Options, say: Say) -> Report:
    """Measure all loads. Raises `RowsLostError`, and whatever breaks."""
    load_average = os.getloadavg()[0]
    idle = measure_idle(options, say) if options.idle_seconds else None
    results = [measure(load, options, say) for load in options.loads]
    small = measure(options.small, options, say) if options.small else None
    regimes = [measure(load, options, say) for load in options.regimes]
    return Report(options, load_average, results, small, regimes, idle)


@contextlib.contextmanager
def store_of(options: Options) -> Iterator[Subject]:
    """Run a gateway on an empty store, embedded or in a database made on the named server."""
    with contextlib.ExitStack() as stack:
        dsn = stack.enter_context(fresh_database(options.dsn)) if options.dsn else None
        yield stack.enter_context(Subject(dsn, options.workers))


def measure_idle(options: Options, say: Say) -> Idle:
    """Measure the gateway without load, once it has settled."""
    say(f"idle for {options.idle_seconds:g} s")
    with store_of(options) as subject:
        time.sleep(min(_SETTLE_SECONDS, options.idle_seconds))
        before = subject.usage()
        time.sleep(options.idle_seconds)
        return Idle(subject.memory(), subject.usage().share_since(before))


def measure(load: Load, options: Options, say: Say) -> Result:
    """Measure one load: rounds of gateway and limit, then a look whether all rows are there."""
    first_time_ns = first_time()
    payloads = Payloads(load.signal, load.records, load.series, first_time_ns, load.order, load.changing)
    with contextlib.ExitStack() as stack:
        subject = stack.enter_context(store_of(options))
        limit_dsn = stack.enter_context(fresh_database(subject.dsn))
        limit = stack.enter_context(Limit(limit_dsn, make_store(limit_dsn), payloads))
        store = stack.enter_context(Store(subject.dsn))
        result = Result(load, describe_server(subject.dsn))
        empty = store.size()
        next_request = 0
        # Every series is known after the warm-up, as it is in a gateway that runs for more than a minute.
        warm_up = max(_WARM_UP, load.series // load.records if load.signal == "metrics" else 0)
        for number in range(options.rounds):
            say(f"{load.title}: round {number + 1} of {options.rounds}, the gateway")
            store.checkpoint()
            job = dataclasses.replace(
                job_for(
                    load,
                    subject.endpoint(load.protocol),
                    first_time_ns,
                    first=next_request,
                    warm_up=warm_up,
                    workers=options.workers,
                ),
                seconds=options.seconds,
                requests=options.requests,
            )
            with Loader(job) as loader:
                before = subject.usage()
                sent = loader.run()
            first = next_request + warm_up
            batches = limit.encode(range(next_request, first + sent.requests))
            commits = store.commits([batch.batch.digest for batch in batches[warm_up:]])
            after = subject.usage()  # by now what went through a spool is committed, too
            say(f"{load.title}: round {number + 1} of {options.rounds}, the limit")
            store.checkpoint()
            limit_rate = limit.copy(batches, max(commits.batches_per_transaction, 1.0))
            next_request = first + sent.requests
            records = sent.requests * payloads.records
            _add(result, sent)
            result.rounds.append(
                Round(
                    records=records,
                    seconds=sent.seconds,
                    committed_per_second=commits.batches_per_second * payloads.records or records / sent.seconds,
                    limit_per_second=limit_rate,
                    cpu_seconds=max(after.since(before), _CPU_RESOLUTION),
                    loader_cpu_seconds=sent.cpu_seconds,
                    batches_per_commit=commits.batches_per_transaction,
                )
            )
        result.peak_memory = subject.peak_memory()
        result.acknowledged = next_request * payloads.records
        result.rows = store.rows(load.signal)
        result.bytes_per_record = (store.size() - empty) / max(result.rows, 1)
    if result.rows != result.acknowledged:
        raise RowsLostError(f"{load.title}: {result.acknowledged} records acknowledged, {result.rows} in the store")
    return result


def _add(result: Result, sent: Sent) -> None:
    result.latencies += sent.latencies
    result.requests += sent.requests
    result.refused += sent.refused
