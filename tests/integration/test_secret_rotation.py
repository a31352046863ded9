"""A secret that is rotated, in OpenBao or in a file, while a hub runs."""

from __future__ import annotations

from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from gateway.pipeline import Signal
from tests.faults.harness import Load, until
from tests.integration.cli.processes import config_text, free_port, hubs
from tests.support.databases import Database
from tests.support.openbao import stand_in


def test_a_rotated_connection_string_is_used_without_a_restart(native_database: Database) -> None:
    def names() -> set[str]:
        query = "SELECT application_name FROM pg_stat_activity WHERE datname = %s"
        return {name for (name,) in native_database.run(query, (native_database.name,))}

    with stand_in() as bao, hubs() as running:
        bao.secrets["hub/database"] = {"dsn": make_conninfo(native_database.dsn, application_name="before")}
        config = config_text(grpc=free_port(), http=free_port(), timescale={"dsn": "${bao:hub/database#dsn}"})
        hub = running.start(config, BAO_ADDR=bao.address, BAO_TOKEN=bao.root_token, OBSHUB_BAO_CACHE_TTL="1s")
        hub.until_ready()
        clients = Load([hub.grpc], clients=1, timeout=5, records=20, signals=[Signal.METRICS])
        until(lambda: "before" in names(), "a connection by the first secret")
        bao.secrets["hub/database"] = {"dsn": make_conninfo(native_database.dsn, application_name="after")}
        until(lambda: "has been rotated and is in use" in hub.stderr, "the rotation")
        with psycopg.connect(native_database.dsn, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'before'"
            )
        bao.sealed = True  # what was read stays in use
        until(lambda: "after" in names(), "a connection by the rotated secret")
        clients.until_acknowledged(5)
        clients.finish()
        until(lambda: "those before stay in use" in hub.stderr, "the warning")
        assert "application_name" not in hub.stderr, "the secret is in the log"
        assert bao.root_token not in hub.stderr


def test_a_secret_in_a_file_is_read_again_as_well(native_database: Database, tmp_path: Path) -> None:
    secret = tmp_path / "dsn"
    secret.write_text(make_conninfo(native_database.dsn, application_name="before"))
    with hubs() as running:
        config = config_text(grpc=free_port(), http=free_port(), timescale={"dsn": f"${{file:{secret}}}"})
        hub = running.start(config, OBSHUB_BAO_CACHE_TTL="1s").until_ready()
        secret.write_text(make_conninfo(native_database.dsn, application_name="after"))
        until(lambda: "has been rotated and is in use" in hub.stderr, "the rotation")
        assert "application_name" not in hub.stderr, "the secret is in the log"
