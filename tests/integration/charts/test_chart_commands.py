"""What the charts have pods do, done here: configurations, hooks, jobs, the script of the first start, probes.

There are no nodes here, so each command is run as it stands in a manifest, with this machine's places for the pod's.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import psycopg
import pytest
import yaml
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from gateway.embedded import binaries
from gateway.extensions.tokens.token import create
from gateway.extensions.tokens.token_file import TokenFile
from gateway.net.access import Scope
from tests.integration.cli.processes import HubProcess, environment, free_port, hubs, obs_hub
from tests.integration.test_documents import parsed
from tests.support.charts import Manifest, containers, find, known_cases, manifests, pods
from tests.support.databases import Database, Server

cases = pytest.mark.parametrize("case", known_cases())
OWN = re.compile(r"(.+/)?obs-hub[:@]")


def own_containers(case: str) -> Iterator[tuple[str, Manifest]]:
    """Yield the containers that run the hub's own image."""
    for what, pod in pods(manifests(case)):
        for container in containers(pod):
            if OWN.match(container["image"]):
                yield what, container


@cases
def test_what_is_told_the_hubs_image_is_understood_by_the_command_line(case: str) -> None:
    for _, container in own_containers(case):
        if "command" not in container:
            parsed(container["args"])
        elif container["command"][0] == "sh":
            for line in re.findall(r"obs-hub (.+?)(?: <|$)", container["args"][0], re.MULTILINE):
                parsed(shlex.split(line))


def config_of(every: tuple[Manifest, ...]) -> str:
    """The gateway's configuration; "" where there is no gateway."""
    found = [
        each["data"]["hub.yaml"]
        for each in every
        if each["kind"] == "ConfigMap" and "hub.yaml" in each["data"] and "hub-migrate" not in each["metadata"]["name"]
    ]
    return found[0] if found else ""


@cases
def test_the_hub_takes_the_configuration(case: str, tmp_path: Path) -> None:
    text = config_of(manifests(case))
    if not text:
        pytest.skip("the case has no gateway")
    (tmp_path / "dsn").write_text("postgresql://obs_hub:secret@obs-hub-postgres:5432/obs_hub")
    file = tmp_path / "hub.yaml"
    text = text.replace("/etc/obs-hub/secrets/store/dsn", f"{tmp_path}/dsn")
    if "cert_file" in text:
        pytest.skip("the case names a certificate that is nowhere")
    file.write_text(text)
    checked = obs_hub("config", "check", "--config", file)
    assert checked.returncode == 0, checked.stderr


# -- The gateway -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gateway(embedded_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubProcess, str]]:
    """The hub's gateway as its chart runs it, on ports of this machine, and a token that it knows."""
    from tests.support.databases import fresh_store

    secret_files = tmp_path_factory.mktemp("secrets")
    token, text = create("alloy", [Scope.INGEST])
    TokenFile(secret_files / "tokens.json").add(token)
    config = config_of(manifests("hub")).replace("/etc/obs-hub/secrets/store/dsn", f"{secret_files}/dsn")
    config = config.replace("/etc/obs-hub/tokens/tokens.json", f"{secret_files}/tokens.json")
    config = re.sub(r"0\.0\.0\.0:\d+", lambda _: f"0.0.0.0:{free_port()}", config)
    with fresh_store(embedded_server) as database, hubs(forked=True) as started:
        (secret_files / "dsn").write_text(database.dsn)
        (container,) = find(manifests("hub"), "StatefulSet", "obs-hub")["spec"]["template"]["spec"]["containers"]
        assert container["args"] == ["serve"]
        # The DSN stands in a file, so the hub is not to get an embedded PostgreSQL.
        yield started.start(config, first=True).until_ready(), text


def ask(hub: HubProcess, path: str) -> tuple[int, Any]:
    port = hub.running.endpoints["api"].rpartition(":")[2]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        return answer.status, json.loads(answer.read())


def test_the_probes_of_the_gateway_are_answered(gateway: tuple[HubProcess, str]) -> None:
    hub, _ = gateway
    (container,) = find(manifests("hub"), "StatefulSet", "obs-hub")["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        assert (asked["port"], ports[asked["port"]], asked["scheme"]) == ("front", 8085, "HTTP")
        assert ask(hub, asked["path"])[0] == 200


def test_whoever_has_the_token_may_send_and_nobody_else(gateway: tuple[HubProcess, str]) -> None:
    hub, token = gateway
    port = hub.running.endpoints["otlp http"].rpartition(":")[2]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/logs", b"{}", {"Content-Type": "application/json"}, method="POST"
    )
    with pytest.raises(HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    assert refused.value.code == 401
    request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def test_helm_test_asks_what_answers(gateway: tuple[HubProcess, str]) -> None:
    hub, _ = gateway
    (container,) = find(manifests("hub"), "Pod", "obs-hub-test")["spec"]["containers"]
    *command, url = container["command"]
    assert re.fullmatch(r"http://obs-hub:8085/api/v1/ready\?strict=true", url)
    port = hub.running.endpoints["api"].rpartition(":")[2]
    url = url.replace("obs-hub:8085", f"127.0.0.1:{port}")
    asked = subprocess.run([sys.executable, *command[1:], url], capture_output=True, text=True, check=True)
    assert asked.stdout.startswith("200 ")


# -- The database's first start, hooks and jobs ------------------------------------------------------------------------


@pytest.fixture
def own_name(server: Server) -> Iterator[str]:
    """A name for a role and a database that the server has not, and has not afterwards."""
    name = f"charts_{secrets.token_hex(6)}"
    yield name
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        for role in (f"{name}_grafana", name):
            if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,)).fetchone():
                connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))


def shell(script: str, server: Server, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script as the pod would, with psql and obs-hub on PATH and the server where libpq looks for it."""
    given = conninfo_to_dict(server.dsn)
    where = {"PGHOST": str(given["host"]), "PGPORT": str(given.get("port", "")), "PGUSER": str(given.get("user", ""))}
    paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
    with suppress(Exception):
        paths.insert(1, str(binaries()))
    return subprocess.run(
        ["sh", "-ec", script],
        env=environment(PATH=":".join(paths), **{k: v for k, v in where.items() if v}, **variables),
        capture_output=True,
        text=True,
        check=False,
    )


def superuser(server: Server) -> str:
    return str(conninfo_to_dict(server.dsn).get("user", "postgres"))


@pytest.fixture
def first_start(server: Server, own_name: str) -> Database:
    """A database as the script of PostgreSQL's first start leaves it."""
    script = find(manifests("hub"), "ConfigMap", "obs-hub-postgres-init")["data"]["90-obs-hub.sh"]
    script = script.replace("obs_hub", own_name)
    if server.layout == "native":
        script = script.replace("CREATE EXTENSION IF NOT EXISTS timescaledb;\n", "")
    ran = shell(script, server, POSTGRES_USER=superuser(server), OBSHUB_STORE_PASSWORD="it's secret")
    assert ran.returncode == 0, ran.stderr
    return Database(server, own_name)


def test_the_first_start_makes_a_database_that_the_hub_can_use(first_start: Database) -> None:
    owned = make_conninfo(first_start.dsn, user=first_start.name, password="it's secret")
    migrated = obs_hub("db", "migrate", "--dsn", owned)
    assert migrated.returncode == 0, migrated.stderr
    encoding = "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
    assert first_start.value(encoding) == "UTF8"
    hypertables = "SELECT to_regclass('_timescaledb_catalog.hypertable') IS NOT NULL"
    assert first_start.value(hypertables) is (first_start.server.layout == "timescale")


def test_the_hook_of_the_gateway_migrates_the_store_that_is_configured(first_start: Database, tmp_path: Path) -> None:
    (container,) = find(manifests("hub"), "Job", "obs-hub-migrate")["spec"]["template"]["spec"]["containers"]
    config = find(manifests("hub"), "ConfigMap", "obs-hub-migrate")["data"]["hub.yaml"]
    (tmp_path / "dsn").write_text(make_conninfo(first_start.dsn, user=first_start.name, password="it's secret"))
    (tmp_path / "hub.yaml").write_text(config.replace("/etc/obs-hub/secrets/store/dsn", f"{tmp_path}/dsn"))
    for expected in ("applied", "up to date"):
        ran = obs_hub(*container["args"], OBSHUB_CONFIG=str(tmp_path / "hub.yaml"), OBSHUB_DATA_DIR=str(tmp_path / "d"))
        assert ran.returncode == 0, ran.stderr
        assert expected in ran.stdout


def test_the_hook_for_grafana_makes_its_user_before_or_after_the_gateway_made_the_store(
    first_start: Database, tmp_path: Path
) -> None:
    (container,) = find(manifests("hub"), "Job", "obs-hub-postgres-reader")["spec"]["template"]["spec"]["containers"]
    given = conninfo_to_dict(first_start.server.dsn)
    port = f" port={given['port']}" if given.get("port") else ""
    user = f"{first_start.name}_grafana"
    script = (
        container["args"][0]
        .replace("obs_hub", first_start.name)
        .replace("host=obs-hub-postgres", f"host={given['host']}{port}")
        .replace("user=postgres", f"user={superuser(first_start.server)}")
        .replace("reader grafana", f"reader {user}")
        .replace("/etc/obs-hub/reader", str(tmp_path))
    )
    for password in ("first", "second"):
        (tmp_path / "password").write_text(password)
        secret_variables = {"PGPASSWORD": "it's secret", "POSTGRES_PASSWORD": ""}
        ran = shell(script, first_start.server, OBSHUB_DATA_DIR=f"{tmp_path}/d", **secret_variables)
        assert ran.returncode == 0, ran.stderr
        with psycopg.connect(make_conninfo(first_start.dsn, user=user, password=password)) as connection:
            assert connection.execute("SELECT count(*) FROM metrics").fetchone() == (0,)


def test_the_nightly_job_writes_a_backup_and_keeps_as_many_as_it_is_told(database: Database, tmp_path: Path) -> None:
    spec = find(manifests("hub"), "CronJob", "obs-hub-postgres-backup")["spec"]["jobTemplate"]["spec"]["template"]
    (container,) = spec["spec"]["containers"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/backup", "/tmp"}
    words = [
        {"/backup": str(tmp_path / "backup")}.get(word, database.dsn if word.startswith("host=") else word)
        for word in container["args"]
    ]
    assert words != container["args"]
    words[words.index("--keep") + 1] = "1"
    for _ in range(2):
        ran = obs_hub(*words, OBSHUB_DATA_DIR=str(tmp_path / "d"))
        if "older" in ran.stderr or "version" in ran.stderr:
            pytest.skip("pg_dump here is not installed in the server's version")
        assert ran.returncode == 0, ran.stderr
    assert len(list((tmp_path / "backup").glob("*.dump"))) == 1


def settings(case: str) -> dict[str, str]:
    """The settings that a case starts PostgreSQL with."""
    every = manifests(case)
    for each in every:
        if (each["kind"], each["metadata"]["name"]) == ("StatefulSet", "obs-hub-postgres"):
            (container,) = each["spec"]["template"]["spec"]["containers"]
            assert container["args"][0] == "postgres"
            return dict(word.removeprefix("-c").split("=", 1) for word in container["args"][1:])
        if each["kind"] == "Cluster":
            given: dict[str, str] = each["spec"]["postgresql"]["parameters"]
            return given
    return {}


SIZES = [case for case in ("hub", "hub-small", "hub-medium", "hub-large") if case in known_cases()]


@pytest.mark.parametrize("case", SIZES)
def test_postgresql_knows_every_setting_and_takes_its_value(case: str, embedded_server: Server) -> None:
    with psycopg.connect(embedded_server.dsn, autocommit=True) as connection:
        known = {
            name: (vartype, context)
            for name, vartype, context in connection.execute(
                "SELECT name, vartype, context FROM pg_settings"
            ).fetchall()
        }
        for name, value in settings(case).items():
            if name.startswith("timescaledb.") or value == "lz4":  # which the embedded PostgreSQL is built without
                continue
            assert name in known, name
            vartype, context = known[name]
            if context in ("user", "superuser"):
                connection.execute(sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
            elif vartype == "integer":
                # As `SET` would be told of a value that cannot be, without changing it.
                assert re.fullmatch(r"\d+(kB|MB|GB|TB)?", value), (name, value)


@pytest.mark.parametrize("case", SIZES)
def test_settings_fit_the_memory_that_the_pod_has(case: str) -> None:
    every = manifests(case)
    if any(each["kind"] == "Cluster" for each in every):
        limit = next(each for each in every if each["kind"] == "Cluster")["spec"]["resources"]["limits"]["memory"]
    else:
        (container,) = find(every, "StatefulSet", "obs-hub-postgres")["spec"]["template"]["spec"]["containers"]
        limit = container["resources"]["limits"]["memory"]
    given = settings(case)
    shared, cached = _bytes(given["shared_buffers"]), _bytes(given["effective_cache_size"])
    assert _bytes(limit) / 8 <= shared <= _bytes(limit) * 0.4
    assert shared < cached <= _bytes(limit) * 0.75
    workers = int(given["max_worker_processes"])
    assert workers >= int(given.get("timescaledb.max_background_workers", "0")) + int(given["max_parallel_workers"]) + 3


def _bytes(text: str) -> float:
    match = re.fullmatch(r"(\d+)([kMGT])i?B?", text)
    assert match is not None, text
    return float(int(match[1]) * 1024 ** ("kMGT".index(match[2]) + 1))


def test_postgresqls_probe_tells_whether_it_answers(embedded_server: Server) -> None:
    (container,) = find(manifests("hub"), "StatefulSet", "obs-hub-postgres")["spec"]["template"]["spec"]["containers"]
    program, host, *rest = container["readinessProbe"]["exec"]["command"]
    assert (program, host) == ("pg_isready", "--host=127.0.0.1")
    directory = binaries()
    path = shutil.which(program, path=f"{directory}:{os.environ['PATH']}")
    assert path is not None
    socket = conninfo_to_dict(embedded_server.dsn)["host"]
    assert subprocess.run([path, f"--host={socket}", *rest], check=False, capture_output=True).returncode == 0
    nobody = subprocess.run([path, host, f"--port={free_port()}", *rest], check=False, capture_output=True)
    assert nobody.returncode == 2


def test_alloy_reads_all_files_of_its_folder_as_one_configuration(tmp_path: Path) -> None:
    if shutil.which("alloy") is None:
        pytest.skip("there is no alloy on PATH")
    from tests.support import charts

    if charts.HELM is None:
        pytest.skip(charts.NO_HELM)
    # As a ConfigMap is mounted: files are links into a folder that has a name of its own.
    folder = tmp_path / "..2026"
    folder.mkdir()
    for name, text in find(manifests("hub"), "ConfigMap", "obs-hub-alloy")["data"].items():
        (folder / name).write_text(text)
        (tmp_path / name).symlink_to(folder / name)
    subprocess.run(["alloy", "validate", str(tmp_path)], check=True)
    lines = yaml.safe_dump(sorted(path.name for path in tmp_path.glob("*.alloy")))
    assert lines == "- kubernetes-journal.alloy\n- kubernetes.alloy\n"
