"""A hub with a page, on a store that has what a homelab has sent."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from gateway.embedded import EmbeddedPostgres
from tests.integration.cli.processes import HubProcess, Hubs, config_text, free_port, hubs
from tests.support.databases import Database, Server, drop_template, fresh_store
from tests.support.homelab_store import fill


@dataclass(frozen=True)
class Lab:
    """A hub with a page, that hosts report to. ``otlp`` is where it takes OTLP over HTTP."""

    hub: HubProcess
    url: str
    otlp: str
    database: Database


def start_lab(running: Hubs, database: Database, name: str = "hub", *, own_host: bool = True, **api: Any) -> Lab:
    """Start a hub that says every second how it is, and how its machine is if that is its ``own_host``."""
    http, port = free_port(), free_port()
    config = yaml.safe_load(
        config_text(
            grpc=free_port(),
            http=http,
            timescale={"dsn": database.dsn, "timeout": "1s", "retry_on_failure": {"max_interval": "300ms"}},
            receivers={"hostmetrics": {"collection_interval": "1s"}} if own_host else {},
            service={"telemetry": {"metrics": {"enabled": own_host, "interval": "1s"}, "traces": {"enabled": False}}},
        )
    )
    config["extensions"] = {"tokens": {}, "api": {"endpoint": f"127.0.0.1:{port}", "auth": {"authenticator": "tokens"}}}
    config["extensions"]["api"] |= api
    config["service"]["extensions"] = ["tokens", "api"]
    hub = running.start(yaml.safe_dump(config), name=name).until_ready()
    return Lab(hub, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{http}", database)


@contextmanager
def lab_of(hosts: int, over: timedelta, *, own_host: bool = False) -> Iterator[Lab]:
    """A hub on a store that is filled."""
    with tempfile.TemporaryDirectory(prefix="obs-hub-page-") as directory:
        Path(directory).chmod(0o711)
        with EmbeddedPostgres(Path(directory) / "postgres") as postgres, hubs() as running:
            server = Server("native", postgres.dsn)
            with fresh_store(server) as database:
                began = time.perf_counter()
                # To what will be the present once all is there and shown, also on a machine with much else to do.
                fill(database, hosts, over, datetime.now(UTC) + timedelta(minutes=2))
                print(f"a store of {hosts} hosts over {over} was made in {time.perf_counter() - began:.0f} s\n")
                yield start_lab(running, database, own_host=own_host)
            drop_template(server)
