"""A secret that is rotated, in OpenBao or in a file, while a hub runs."""

from __future__ import annotations

from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from gateway.component import Signal
from tests.faults.harness import Load, until
from tests.integration.cli.processes import config_text, free_port, hubs, obs_hub
from tests.support.databases import Database
from tests.support.openbao import stand_in


def test_a_rotated_connection_string_is_used_without_a_restart(native_database: Database) -> None:
    def names() -> set[str]:
        query = "SELECT application_name FROM pg_stat_activity WHERE datname = %s"
        return {name for (name,) in native_database.run(query, (native_database.name,))}

    with stand_in() as bao, hubs(forked=True) as running:
        bao.secrets["hub/database"] = {"dsn": make_conninfo(native_database.dsn, application_name="before")}
        config = config_text(grpc=free_port(), http=free_port(), timescale={"dsn": "${bao:hub/database#dsn}"})
        hub = running.start(config, BAO_ADDR=bao.address, BAO_TOKEN=bao.root_token, OBSHUB_BAO_CACHE_TTL="1s")
        hub.until_ready()
        clients = Load([hub.grpc], clients=1, timeout=5, records=20, signals=[Signal.METRICS], pause=0.02)
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
    with hubs(forked=True) as running:
        config = config_text(grpc=free_port(), http=free_port(), timescale={"dsn": f"${{file:{secret}}}"})
        hub = running.start(config, OBSHUB_BAO_CACHE_TTL="1s").until_ready()
        secret.write_text(make_conninfo(native_database.dsn, application_name="after"))
        until(lambda: "has been rotated and is in use" in hub.stderr, "the rotation")
        assert "application_name" not in hub.stderr, "the secret is in the log"


def test_the_nightly_backup_and_other_commands_follow_a_rotation(native_database: Database, tmp_path: Path) -> None:
    """The hub goes on; who the secret named at its start may not log in any more."""
    before, after = (f"{native_database.name}_{word}" for word in ("before", "after"))
    for user in (before, after):
        native_database.run(f"CREATE ROLE {user} LOGIN SUPERUSER")
    secret = tmp_path / "dsn"
    secret.write_text(make_conninfo(native_database.dsn, user=before))
    try:
        with hubs(forked=True) as running:
            config = config_text(grpc=free_port(), http=free_port(), timescale={"dsn": f"${{file:{secret}}}"})
            hub = running.start(config, OBSHUB_BAO_CACHE_TTL="1s").until_ready()
            secret.write_text(make_conninfo(native_database.dsn, user=after))
            native_database.run(f"ALTER ROLE {before} NOLOGIN")
            until(lambda: "has been rotated and is in use" in hub.stderr, "the rotation")
            places = ("--config", hub.config_file, "--data-dir", hub.data_dir)
            for command in (
                ("db", "backup", "--output", tmp_path / "backups", "--keep", "7"),
                ("db", "status"),
                ("query", "SELECT 1"),
            ):
                done = obs_hub(*command, *places)
                assert done.returncode == 0, (command, done.stdout, done.stderr)
            assert "schema: up to date" in obs_hub("doctor", *places).stdout
            assert len(list((tmp_path / "backups").glob("*.dump"))) == 1
            # As the nightly unit runs: it cannot read the secret itself, and goes by what the hub has written down.
            until(lambda: hub.running.dsn is not None and after in hub.running.dsn, "what is written down")
            secret.unlink()
            done = obs_hub("db", "backup", "--output", tmp_path / "backups", "--keep", "7", *places)
            assert done.returncode == 0, done.stderr
    finally:
        for user in (before, after):
            native_database.run(f"DROP OWNED BY {user} CASCADE")
            native_database.run(f"DROP ROLE {user}")
