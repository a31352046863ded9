from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
import yaml

from tests.integration.cli.processes import HubProcess, Hubs, config_text, free_port, hubs, obs_hub
from tests.support.databases import Database, Server, fresh_store
from tests.support.waiting import PATIENCE


@dataclass(frozen=True)
class Front:
    """A hub with its API front, and tokens for it."""

    hub: HubProcess
    url: str
    admin: str
    reader: str
    all: str
    database: Database

    def client(self, token: str | None = None) -> httpx.Client:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE, trust_env=False)


def config(dsn: str, port: int, more: dict[str, object], **api: object) -> str:
    document = yaml.safe_load(
        config_text(
            grpc=free_port(),
            http=free_port(),
            timescale={"dsn": dsn, "timeout": "1s", "retry_on_failure": {"max_interval": "300ms"}},
        )
    )
    document["extensions"] = {
        "tokens": {},
        "api": {"endpoint": f"127.0.0.1:{port}", "auth": {"authenticator": "tokens"}, **api},
        **more,
    }
    document["service"]["extensions"] = list(document["extensions"])
    return yaml.safe_dump(document)


def start(
    running: Hubs,
    database: Database,
    *options: str,
    name: str = "hub",
    more: dict[str, object] | None = None,
    **api: object,
) -> Front:
    """Start a hub. ``more`` are extensions besides, ``api`` settings of the front."""
    port = free_port()
    hub = running.start(config(database.dsn, port, more or {}, **api), *options, name=name).until_ready()

    def token(*scopes: str) -> str:
        options = [word for scope in scopes for word in ("--scope", scope)]
        made = obs_hub("token", "create", "-".join(scopes), *options, "--quiet", OBSHUB_DATA_DIR=str(hub.data_dir))
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    return Front(hub, f"http://127.0.0.1:{port}", token("admin"), token("read"), token("admin", "read"), database)


@pytest.fixture(scope="module")
def front(embedded_server: Server) -> Iterator[Front]:
    with fresh_store(embedded_server) as database, hubs(forked=True) as running:
        yield start(running, database)
