"""What collecting host metrics costs: CPU time and memory.

    python -m tests.bench.hostmetrics_overhead [--collections 300] [--protocol grpc] [--processes] [--containers 10]

Everything is as in production but the interval: collections follow each other at once, and go over a real connection to
a server in another process, whose own cost is not counted.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from receivers.hostmetrics.collector import Collector
from receivers.hostmetrics.config import HostMetricsConfig
from receivers.hostmetrics.resource import resource
from receivers.hostmetrics.scrapers import sensors
from receivers.hostmetrics.sender import Sender, destination
from tests.support.engines import FakeEngine, details, listed, running, stats

INTERVAL = HostMetricsConfig().collection_interval.total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collections", type=int, default=300)
    parser.add_argument("--protocol", choices=("grpc", "http/protobuf"), default="grpc")
    parser.add_argument("--processes", action="store_true", help="single processes, too")
    parser.add_argument("--containers", type=int, default=0, help="so many containers, of an engine that is made up")
    arguments = parser.parse_args()

    # Started anew rather than forked: gRPC does not live through a fork.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(arguments.protocol, theirs), daemon=True)
    server.start()
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder, "docker.sock")
        scrapers: dict[str, Any] = {"process": {"enabled": arguments.processes}, "container": {"enabled": False}}
        port = ours.recv()
        if arguments.containers:
            engine = context.Process(target=contain, args=(socket, arguments.containers, theirs), daemon=True)
            engine.start()
            scrapers["container"] = {"socket": str(socket)}
            ours.recv()
        config = HostMetricsConfig.model_validate(
            {
                "endpoint": f"http://127.0.0.1:{port}",
                "protocol": arguments.protocol,
                "scrapers": scrapers,
            }
        )
        measure(config, arguments.collections)
    server.terminate()
    server.join()


def measure(config: HostMetricsConfig, collections: int) -> None:
    """Collect and send that often, and print what it took."""
    process = psutil.Process()
    collector = Collector(sensors(config.scrapers), resource())
    sender = Sender(destination(config))
    for _ in range(10):  # past the connection set-up and the first use of everything
        assert sender.send(collector.collect())
    gc.collect()
    memory_before = process.memory_info().rss
    points = 0
    collecting = 0.0
    began = time.process_time()
    for _ in range(collections):
        before = time.process_time()
        data = collector.collect()
        collecting += time.process_time() - before
        metrics = [each for resource in data.resource_metrics for each in resource.scope_metrics[0].metrics]
        points += sum(len(metric.data.data_points) for metric in metrics)
        assert sender.send(data)
    total = time.process_time() - began
    gc.collect()
    memory_after = process.memory_info().rss
    sender.close()

    print(
        f"{psutil.cpu_count()} CPUs, {len(psutil.pids())} processes, {points // collections} data points a collection"
    )
    print(f"CPU a collection    {total / collections * 1e3:6.2f} ms, of which")
    print(f"  reading           {collecting / collections * 1e3:6.2f} ms")
    print(f"  encoding, sending {(total - collecting) / collections * 1e3:6.2f} ms")
    print(f"CPU every {INTERVAL:g} s      {total / collections / INTERVAL:.3%} of a core")
    print(f"memory              {memory_after / 2**20:6.1f} MiB, {(memory_after - memory_before) / 2**10:+.0f} KiB")
    print()
    print("CPU by sensor")
    for sensor in sensors(config.scrapers):
        list(sensor.read())
        before = time.process_time()
        for _ in range(collections):
            list(sensor.read())
        print(f"  {sensor.name:20}{(time.process_time() - before) / collections * 1e3:7.3f} ms")


def contain(path: Path, containers: int, ready: Connection) -> None:
    """Be an engine that has so many containers. Says so through the pipe."""
    engine = FakeEngine(path)
    for number in range(containers):
        engine.has(listed(f"app-{number}", Id=f"{number:064x}"), details(), stats())
    with running(engine):
        ready.send(0)
        signal.pause()


def serve(protocol: str, port: Connection) -> None:
    """Take everything and keep nothing. Tells its port through the pipe."""
    if protocol == "grpc":
        import grpc

        class Sink(grpc.GenericRpcHandler):
            def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
                return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")

        server = grpc.server(ThreadPoolExecutor(1), (Sink(),))
        port.send(server.add_insecure_port("127.0.0.1:0"))
        server.start()
        server.wait_for_termination()
        return

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    port.send(http.server_address[1])
    http.serve_forever()


if __name__ == "__main__":
    main()
