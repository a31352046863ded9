"""``python -m tests.bench``: measure, and show the table."""

from __future__ import annotations

import argparse
import json
import sys

import psycopg
from rich.console import Console

from gateway.component import Signal
from tests.bench import report
from tests.bench.loader import LoadError
from tests.bench.loads import NOUNS, RECORDS_PER_REQUEST, Load, Options, Protocol, regimes
from tests.bench.measure import RowsLostError, run
from tests.bench.profiling import profile
from tests.bench.subject import SubjectError

_SMALL_RECORDS = 100
_SMALL_IN_FLIGHT = 64


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measure the gateway under OTLP load, beside a bare COPY of the same rows on the same server.",
    )
    add = parser.add_argument
    add("--signal", choices=["all", *(signal.value for signal in Signal)], default="all")
    add("--protocol", choices=["all", "grpc", "http"], default="all")
    add("--records-per-request", type=int, metavar="N", help="default: 10000 points; 2000 spans or logs")
    add("--in-flight", type=int, default=4, metavar="N", help="requests in flight at any time (%(default)s)")
    add("--series", type=int, default=10_000, metavar="N", help="time series of the points (%(default)s)")
    add("--seconds", type=float, default=3.0, metavar="S", help="how long a round lasts (%(default)g)")
    add("--requests", type=int, metavar="N", help="how many requests a round has, instead of --seconds")
    add("--rounds", type=int, default=2, metavar="N", help="of gateway and bare COPY in turn (%(default)s)")
    add("--idle-seconds", type=float, default=20.0, metavar="S", help="length of the idle measurement; 0: none")
    add("--no-small", action="store_true", help="without the row of small requests")
    add("--regimes", action="store_true", help="with rows of points in each client's order, few and many series, ...")
    add("--gzip", action="store_true", help="compress requests; costs the load generator most")
    add("--workers", type=int, default=1, metavar="N", help="gateway processes (%(default)s)")
    add("--dsn", help="a PostgreSQL server on which databases may be made and dropped; default: the embedded one")
    add("--json", action="store_true", help="print JSON instead of the table")
    add("--profile", choices=[signal.value for signal in Signal], help="only profile the encoding of this signal")
    return parser.parse_args()


def _options(arguments: argparse.Namespace) -> Options:
    protocols: list[Protocol] = ["grpc", "http"] if arguments.protocol == "all" else [arguments.protocol]
    signals = [signal for signal in Signal if arguments.signal in ("all", signal.value)]

    def load(signal: Signal, protocol: Protocol) -> Load:
        records = arguments.records_per_request or RECORDS_PER_REQUEST[signal]
        return Load(signal, protocol, records, arguments.in_flight, arguments.series, arguments.gzip)

    small = Load(
        signals[0],
        protocols[0],
        _SMALL_RECORDS,
        _SMALL_IN_FLIGHT,
        arguments.series,
        arguments.gzip,
        f"{_SMALL_RECORDS} {NOUNS[signals[0]]}, {_SMALL_IN_FLIGHT} in flight",
    )
    return Options(
        loads=[load(signal, protocol) for protocol in protocols for signal in signals],
        small=None if arguments.no_small else small,
        regimes=regimes(protocols[0]) if arguments.regimes else [],
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        requests=arguments.requests,
        idle_seconds=arguments.idle_seconds,
        dsn=arguments.dsn,
        workers=arguments.workers,
    )


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    arguments = _arguments()
    if arguments.profile:
        signal = Signal(arguments.profile)
        profile(signal, arguments.records_per_request or RECORDS_PER_REQUEST[signal], arguments.series)
        return 0
    console = Console(width=report.WIDTH)
    progress = Console(stderr=True)
    try:
        with progress.status("starting") as status:
            measured = run(_options(arguments), status.update)
    except (RowsLostError, LoadError, SubjectError, psycopg.Error) as error:
        progress.print(f"The benchmark failed: {error}", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        print(json.dumps(report.as_json(measured), indent=2))
    else:
        report.show(measured, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
