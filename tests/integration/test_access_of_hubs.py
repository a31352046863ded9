"""Access to a whole hub, run as its users run it; and the hunt for secrets where none may be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import psycopg
import pytest
import yaml
from psycopg import sql

from tests.integration.cli.processes import HubProcess, Hubs, config_text, free_port, hubs, obs_hub, until
from tests.support.certificates import Authority
from tests.support.waiting import PATIENCE

EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
TOKENS = {"auth": {"authenticator": "tokens"}}
OWN_TELEMETRY = {"telemetry": {"metrics": {"interval": "1s"}, "traces": {"sampling_ratio": 1.0}}}
HOST_METRICS = {"hostmetrics": {"collection_interval": "1s"}}


@pytest.fixture
def to_start() -> Iterator[Hubs]:
    with hubs(forked=True) as started:
        yield started


def guarded(listener: dict[str, Any]) -> str:
    """A configuration whose listeners ask for something, with everything that the hub says of itself."""
    config = yaml.safe_load(config_text(receivers=HOST_METRICS, service=OWN_TELEMETRY))
    for protocol in config["receivers"]["otlp"]["protocols"].values():
        protocol.update(listener)
    config["extensions"] = {"tokens": None}
    config["service"]["extensions"] = ["tokens"]
    return yaml.safe_dump(config)


def has_metric(hub: HubProcess, pattern: str) -> bool:
    with psycopg.connect(hub.dsn) as connection:
        query = "SELECT 1 FROM metrics WHERE name LIKE %s LIMIT 1"
        return connection.execute(query, (pattern,)).fetchone() is not None


def make_token(hub: HubProcess, *options: str) -> str:
    made = obs_hub("token", "create", "a client", *options, "--quiet", "--data-dir", hub.data_dir)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def grpc_code(address: str, token: str) -> str:
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(EXPORT)(b"", metadata=(("authorization", f"Bearer {token}"),), timeout=PATIENCE)
        except grpc.RpcError as error:
            return str(error.code().name)  # type: ignore[attr-defined]
        return "OK"


def test_tokens_are_made_used_and_revoked_while_the_hub_runs(to_start: Hubs) -> None:
    hub = to_start.start(guarded(TOKENS)).until_ready()
    options = ("--data-dir", str(hub.data_dir), "--config", str(hub.config_file))
    refused = obs_hub("send", "log", "hello", *options)
    assert refused.returncode == 1
    assert "UNAUTHENTICATED" in refused.stderr
    assert "OBSHUB_TOKEN" in refused.stderr
    assert "asks for a token" in obs_hub("doctor", *options).stdout

    shown = obs_hub("token", "create", "nas", "--scope", "ingest", "--expires", "90d", "--rate", "1000", *options)
    token = shown.stdout.split()[0]
    assert re.fullmatch(r"obshub_[0-9a-f]{12}_[0-9a-f]{64}", token)
    assert f'OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20{token}"' in shown.stdout
    assert "No listener asks" not in shown.stderr
    hub.until(lambda: grpc_code(hub.grpc, token) == "OK")
    sent = obs_hub("send", "log", "hello", *options, OBSHUB_TOKEN=token)
    assert sent.returncode == 0, sent.stderr
    assert "read back from logs" in sent.stdout
    examined = obs_hub("doctor", *options, OBSHUB_TOKEN=token)
    assert "otlp http" in examined.stdout
    assert "asks for a token" not in examined.stdout

    listed = obs_hub("token", "list", *options)
    identity = token.split("_")[1]
    assert re.search(rf"{identity} +nas +ingest .*1000/s", listed.stdout)
    assert token.split("_")[2] not in listed.stdout + hub.stderr
    reader = make_token(hub, "--scope", "read")
    hub.until(lambda: grpc_code(hub.grpc, reader) == "PERMISSION_DENIED")

    assert obs_hub("token", "revoke", identity, *options).returncode == 0
    hub.until(lambda: grpc_code(hub.grpc, token) == "UNAUTHENTICATED")
    assert obs_hub("token", "revoke", identity, *options).returncode == 1

    # What the hub says of itself and of its machine gets in all the same, and tells of the refusals.
    hub.until(lambda: has_metric(hub, "system.cpu.%"))
    hub.until(lambda: {"unauthenticated", "permission_denied"} <= refusals(hub))
    assert hub.stop() == 0


def refusals(hub: HubProcess) -> set[str]:
    with psycopg.connect(hub.dsn) as connection:
        rows = connection.execute("SELECT attributes ->> 'reason' FROM metrics WHERE name = 'obs_hub.requests.refused'")
        return {reason for (reason,) in rows}


def listening(hub: HubProcess) -> set[int]:
    """The ports that any process of a hub listens on."""
    first = psutil.Process(hub.pid)
    found = []
    for process in [first, *first.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # PostgreSQL's end with their connections
            found += process.net_connections("tcp")
    return {each.laddr.port for each in found if each.status == psutil.CONN_LISTEN}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_behind_client_certificates_the_hub_still_hears_itself(to_start: Hubs, workers: str, tmp_path: Path) -> None:
    ca = Authority(tmp_path, "ca")
    server = ca.issue("server")
    tls = {"cert_file": str(server.cert), "key_file": str(server.key), "client_ca_file": str(ca.file)}
    options = () if workers == "1" else ("--workers", workers)
    config = yaml.safe_load(guarded({"tls": tls}))
    if workers != "1":  # they share their ports
        for protocol in config["receivers"]["otlp"]["protocols"].values():
            protocol["endpoint"] = f"127.0.0.1:{free_port()}"
    hub = to_start.start(yaml.safe_dump(config), *options).until_ready()
    hub.until(lambda: has_metric(hub, "obs_hub.%"))
    hub.until(lambda: has_metric(hub, "system.cpu.%"))
    endpoints = hub.running.endpoints
    assert set(endpoints) == {"otlp grpc", "otlp http"}
    assert listening(hub) == {int(address.rpartition(":")[2]) for address in endpoints.values()}, (
        "there is no other door"
    )
    examined = obs_hub("doctor", "--data-dir", hub.data_dir, "--config", hub.config_file)
    assert examined.stdout.count("serving by TLS") == 2
    assert hub.stop() == 0


# The hunt


SECRETS = {
    "DSN_PASSWORD": "fake-dsn-password-5d1c",
    "URL_PASSWORD": "fake-url-password-77aa",
    "HEADER_VALUE": "fake-header-value-c0ffee",
    "TELEMETRY_VALUE": "fake-telemetry-value-beef",
}


def hunted_config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(guarded(TOKENS))
    config["exporters"]["timescale"] = {"dsn": "postgresql://hub:${env:URL_PASSWORD}@127.0.0.1:1/hub"}
    config["exporters"]["timescale/conninfo"] = {
        "dsn": "host=127.0.0.1 port=1 user=hub password=${env:DSN_PASSWORD} dbname=hub"
    }
    config["service"]["pipelines"]["logs"]["exporters"].append("timescale/conninfo")
    config["receivers"]["hostmetrics"]["headers"] = {"x-vendor-key": "${env:HEADER_VALUE}"}
    config["service"]["telemetry"]["headers"] = {"x-vendor-key": "${env:TELEMETRY_VALUE}"}
    config["service"]["telemetry"]["logs"] = {"level": "debug"}
    return config


def found_in(text: str, secrets: dict[str, str] = SECRETS) -> set[str]:
    return {name for name, secret in secrets.items() if secret in text}


def test_config_show_and_config_check_keep_secrets(tmp_path: Path) -> None:
    file = tmp_path / "hub.yaml"
    file.write_text(yaml.safe_dump(hunted_config()))
    shown = obs_hub("config", "show", "--config", file, **SECRETS)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("x-vendor-key: '********'") == 2
    assert found_in(shown.stdout + shown.stderr) == set()
    assert found_in(obs_hub("config", "check", "--config", file, **SECRETS).stdout) == set()

    wrong = hunted_config()
    wrong["exporters"]["timescale"] = {"dsn": {"inside": "${env:URL_PASSWORD}"}}
    wrong["receivers"]["hostmetrics"]["headers"] = "${env:HEADER_VALUE}"
    wrong["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"] = "${env:HEADER_VALUE}"
    wrong["receivers"]["otlp"]["protocols"]["http"]["auth"] = {"authenticator": "${env:DSN_PASSWORD}"}
    wrong["service"]["extensions"] = ["${env:URL_PASSWORD}"]
    wrong["service"]["telemetry"]["headers"] = ["${env:TELEMETRY_VALUE}"]
    file.write_text(yaml.safe_dump(wrong))
    checked = obs_hub("config", "check", "--config", file, **SECRETS)
    assert checked.returncode == 1
    assert len(checked.stderr.splitlines()) >= 4
    assert found_in(checked.stdout + checked.stderr) == set()


def test_a_store_that_cannot_be_reached_is_said_without_its_password(to_start: Hubs) -> None:
    hub = to_start.start(yaml.safe_dump(hunted_config()), **SECRETS)
    # Whether the hub then waits for its store or ends is not the matter here.
    until(lambda: "127.0.0.1" in hub.stderr or hub.process.poll() is not None)
    options = ("--data-dir", hub.data_dir, "--config", hub.config_file)
    said = [hub.stderr, hub.stdout]
    for command in (("doctor",), ("query", "SELECT 1"), ("db", "status"), ("send", "log", "hello")):
        ended = obs_hub(*command, *options, **SECRETS)
        said += [ended.stdout, ended.stderr]
    if hub.process.poll() is None:
        hub.stop()
    assert "connection" in "".join(said)  # so there was something to say
    assert found_in("".join([*said, hub.stderr])) == set()


def test_tokens_are_nowhere_but_with_their_owners(to_start: Hubs) -> None:
    """Tokens, good and bad, go through a hub of several processes that logs all it can; then they are looked for."""
    address = f"127.0.0.1:{free_port()}"
    config = yaml.safe_load(guarded(TOKENS))
    protocols = config["receivers"]["otlp"]["protocols"]
    protocols["grpc"]["endpoint"], protocols["http"]["endpoint"] = address, f"127.0.0.1:{free_port()}"
    # The hub's own telemetry takes the way of everybody, with a token from the environment.
    config["service"]["telemetry"] |= {
        "logs": {"level": "debug"},
        "endpoint": f"http://{address}",
        "headers": {"authorization": "Bearer ${env:HUB_TOKEN}"},
    }
    folder = to_start.folder / "hub"
    data_dir = folder / "data"
    made = obs_hub("token", "create", "the hub", "--scope", "ingest", "--quiet", "--data-dir", data_dir)
    good = made.stdout.strip()
    hub = to_start.start(yaml.safe_dump(config), "--workers", "2", HUB_TOKEN=good).until_ready()
    bad = f"obshub_{good.split('_')[1]}_{'5eed' * 16}"
    odd = "fake-password-of-another-system"

    assert grpc_code(address, good) == "OK"
    assert grpc_code(address, bad) == grpc_code(address, odd) == "UNAUTHENTICATED"
    with httpx.Client(base_url=f"http://{hub.running.endpoints['otlp http']}", timeout=PATIENCE) as http:
        for credentials in (f"Bearer {bad}", f"Basic {odd}", odd):
            answer = http.post("/v1/logs", content=b"{", headers={"authorization": credentials})
            assert answer.status_code == 401
            assert found_in(answer.text + repr(answer.headers), {"bad": bad[-64:], "odd": odd}) == set()
        headers = {"authorization": f"Bearer {good}", "content-type": "application/json"}
        assert http.post("/v1/logs", content=b"{", headers=headers).status_code == 400
    hub.until(lambda: has_metric(hub, "obs_hub.%"))
    hub.until(lambda: has_metric(hub, "system.cpu.%"))
    hub.until(lambda: "unauthenticated" in refusals(hub))

    # The hashes are no secrets to those who may read the file; but the rest has no business with them.
    secrets = {"good": good[-64:], "bad": bad[-64:], "odd": odd}
    digest = json.loads((data_dir / "tokens.json").read_text())["tokens"][0]["digest"]
    processes = [psutil.Process(hub.pid), *psutil.Process(hub.pid).children(recursive=True)]
    assert len(processes) > 3
    titles = "\n".join(" ".join(process.cmdline()) for process in processes)
    assert "serve" in titles
    assert found_in(titles, secrets | {"digest": digest}) == set()
    assert found_in(store(hub.dsn), secrets | {"digest": digest}) == set()
    assert hub.stop() == 0
    assert "authentication failed" in hub.stderr
    assert found_in(hub.stderr + hub.stdout, secrets | {"digest": digest}) == set()
    for path in data_dir.rglob("*"):
        if path.is_file() and "postgres" not in path.parts:
            assert found_in(path.read_text(errors="replace"), secrets) == set(), path


def store(dsn: str) -> str:
    """Everything that is in the store, as text."""
    texts: list[str] = []
    with psycopg.connect(dsn) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for table in tables:
            rows = connection.execute(sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(*table)))
            texts += [text for (text,) in rows]
    assert any("system.cpu" in text for text in texts)
    return "\n".join(texts)


def test_send_presents_a_client_certificate(to_start: Hubs, tmp_path: Path) -> None:
    servers, clients = Authority(tmp_path, "servers"), Authority(tmp_path, "clients")
    server, client = servers.issue("server"), clients.issue("client")
    tls = {"cert_file": str(server.cert), "key_file": str(server.key), "client_ca_file": str(clients.file)}
    config = yaml.safe_load(config_text())
    config["receivers"]["otlp"]["protocols"]["grpc"]["tls"] = tls
    hub = to_start.start(yaml.safe_dump(config)).until_ready()
    send = ("send", "log", "hello", "--endpoint", f"https://{hub.grpc}", "--data-dir", hub.data_dir)
    send += ("--ca-file", servers.file)
    certificate, key = ("--client-cert", client.cert), ("--client-key", client.key)
    sent = obs_hub(*send, *certificate, *key)
    assert sent.returncode == 0, sent.stderr
    assert "read back from logs" in sent.stdout
    variables = {
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(client.cert),
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": str(client.key),
    }
    assert obs_hub(*send, **variables).returncode == 0
    assert "UNAVAILABLE" in obs_hub(*send).stderr
    assert "give both" in obs_hub(*send, *certificate).stderr


def test_a_proxy_for_the_outside_is_not_between_a_hub_and_itself(to_start: Hubs) -> None:
    service = {"telemetry": {"metrics": {"interval": "1s"}, "traces": {"enabled": False}}}
    nobody = f"http://127.0.0.1:{free_port()}"
    proxies = {"http_proxy": nobody, "https_proxy": nobody, "grpc_proxy": nobody, "no_proxy": ""}
    config = config_text(grpc=free_port(), receivers=HOST_METRICS, service=service)
    hub = to_start.start(config, **proxies).until_ready()
    hub.until(lambda: has_metric(hub, "system.cpu.%") and has_metric(hub, "obs_hub.%"))
    sent = obs_hub("send", "log", "hello", "--data-dir", hub.data_dir, **proxies)
    assert sent.returncode == 0, sent.stderr
    assert "serving" in obs_hub("doctor", "--data-dir", hub.data_dir, "--config", hub.config_file, **proxies).stdout
