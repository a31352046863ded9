"""``obs-hub send``: one synthetic record, from a client's end to the store and back."""

from __future__ import annotations

import itertools
import math
import os
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import grpc
import psycopg
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from psycopg import sql

from gateway import __version__
from gateway.base.settings import parse_duration
from gateway.cli.database_errors import error_text
from gateway.cli.options import (
    ca_file_option,
    client_certificate_options,
    config_option,
    data_dir_option,
    dsn_option,
    reading_dsn,
    running_hub,
    token_option,
)
from gateway.cli.query import reading
from gateway.cli.severity import SEVERITY
from gateway.net.proxies import channel_options
from gateway.query.logs.records import lowest_number
from gateway.query.reading.connection import connect_to_read
from gateway.synthetic import MARK, look_up

_F = Callable[..., None]


class _Seconds(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest click
    """A length of time: a number of seconds, or written with a unit (``120ms``), not below zero."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it. One that would lead to before 1970 is none: OTLP has no times from there."""
        try:
            seconds = float(value)
        except ValueError:
            try:
                seconds = parse_duration(value).total_seconds()
            except ValueError:
                self.fail(f"{value!r}: expected seconds such as 0.12, or a duration such as 120ms or 1m30s", param, ctx)
        if not (math.isfinite(seconds) and 0 <= seconds < time.time()):
            self.fail(f"{value!r}: expected a length of time, zero or more", param, ctx)
        return seconds


SECONDS = _Seconds()


class _TakesNegative(click.Command):
    """A command with a number among its arguments: a negative one looks like an option, and unknown options do too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = [name for option in self.get_params(ctx) for name in option.opts]
        for word in itertools.takewhile(lambda word: word != "--", args):
            name = word.partition("=")[0]
            if name.startswith("--") and not any(each.startswith(name) for each in known):
                raise click.NoSuchOption(name, possibilities=known, ctx=ctx)
        return super().parse_args(ctx, args)


@click.group()
def send() -> None:
    """Send one synthetic record and confirm that it can be read from the store.

    It travels like anybody's: as OTLP over gRPC to the gateway, or to Alloy in front of it.

    \b
    obs-hub send metric room.temperature 21.5 --unit Cel --attribute room=kitchen
    obs-hub send log "backup finished" --severity warn
    obs-hub send span "GET /cart" --duration 0.12
    obs-hub send event order.placed --body '{"total": 12.5}'
    """


def _options(function: _F) -> _F:
    for option in (
        dsn_option,
        data_dir_option,
        config_option,
        client_certificate_options,
        ca_file_option,
        token_option,
        click.option("--no-confirm", is_flag=True, help="Do not look for the record in the store."),
        click.option("--timeout", type=SECONDS, default=10.0, show_default=True, help="Seconds to wait for the store."),
        click.option(
            "--endpoint", help="OTLP/gRPC address; with https:// by TLS. Default: the running hub's, or 127.0.0.1:4317."
        ),
        click.option("--service", default="obs-hub-send", show_default=True, help="service.name of the sender."),
        click.option("-a", "--attribute", "attributes", multiple=True, metavar="KEY=VALUE", help="May be repeated."),
    ):
        function = option(function)
    return function


@send.command(cls=_TakesNegative, context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("value", type=float)
@click.option("--unit", default="1", show_default=True, help="Unit in UCUM notation.")
@_options
def metric(name: str, value: float, unit: str, **options: Any) -> None:
    """Send one gauge point."""
    request = metrics_service_pb2.ExportMetricsServiceRequest()
    resource_metrics = request.resource_metrics.add()
    scope_metrics = resource_metrics.scope_metrics.add()
    point = scope_metrics.metrics.add(name=name, unit=unit).gauge.data_points.add()
    point.time_unix_nano, point.as_double = time.time_ns(), value
    mark = _describe(resource_metrics.resource, scope_metrics.scope, point.attributes, options)
    _deliver("metrics.v1.MetricsService", request, "metrics", mark, point.time_unix_nano, options)


@send.command()
@click.argument("body")
@click.option("--severity", type=SEVERITY, default="info", show_default=True, help="How severe it is.")
@_options
def log(body: str, severity: str, **options: Any) -> None:
    """Send one log record."""
    request, record = _log_record(options, mark := uuid.uuid4().hex)
    record.severity_text = severity.upper()
    record.severity_number = lowest_number(severity)
    record.body.string_value = body
    _deliver("logs.v1.LogsService", request, "logs", mark, record.time_unix_nano, options)


@send.command()
@click.argument("name")
@click.option("--body", help="The event's body, as JSON.")
@_options
def event(name: str, body: str | None, **options: Any) -> None:
    """Send one event."""
    import json

    request, record = _log_record(options, mark := uuid.uuid4().hex)
    record.event_name, record.severity_number = name, 9
    if body is not None:
        try:
            _set_value(record.body, json.loads(body))
        except ValueError as error:
            raise click.BadParameter(f"not JSON: {error}", param_hint="--body") from error
    _deliver("logs.v1.LogsService", request, "events", mark, record.time_unix_nano, options)


@send.command()
@click.argument("name")
@click.option("--duration", type=SECONDS, default=0.1, show_default=True, help="Seconds, or such as 120ms.")
@_options
def span(name: str, duration: float, **options: Any) -> None:
    """Send one root span that ends now."""
    request = trace_service_pb2.ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    scope_spans = resource_spans.scope_spans.add()
    one = scope_spans.spans.add(trace_id=os.urandom(16), span_id=os.urandom(8), name=name, kind=1)
    one.end_time_unix_nano = time.time_ns()
    one.start_time_unix_nano = one.end_time_unix_nano - round(duration * 1e9)
    mark = _describe(resource_spans.resource, scope_spans.scope, one.attributes, options)
    _deliver("trace.v1.TraceService", request, "spans", mark, one.start_time_unix_nano, options)


def _log_record(options: dict[str, Any], mark: str) -> tuple[logs_service_pb2.ExportLogsServiceRequest, Any]:
    request = logs_service_pb2.ExportLogsServiceRequest()
    resource_logs = request.resource_logs.add()
    scope_logs = resource_logs.scope_logs.add()
    record = scope_logs.log_records.add()
    record.time_unix_nano = record.observed_time_unix_nano = time.time_ns()
    _describe(resource_logs.resource, scope_logs.scope, record.attributes, options, mark)
    return request, record


def _describe(resource: Any, scope: Any, attributes: Any, options: dict[str, Any], mark: str | None = None) -> str:
    """Fill in who sends and the attributes given; return the mark by which the record is found again."""
    mark = mark or uuid.uuid4().hex
    for key, value in (("service.name", options["service"]), ("host.name", socket.gethostname())):
        resource.attributes.add(key=key).value.string_value = value
    scope.name, scope.version = "obs-hub send", __version__
    attributes.add(key=MARK).value.string_value = mark
    for text in options["attributes"]:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--attribute")
        attributes.add(key=key).value.string_value = value
    return mark


def _set_value(target: Any, value: object) -> None:
    """Set an ``AnyValue`` from what JSON gives."""
    match value:
        case bool():
            target.bool_value = value
        case int():
            target.int_value = value
        case float():
            target.double_value = value
        case str():
            target.string_value = value
        case list():
            target.array_value.SetInParent()
            for item in value:
                _set_value(target.array_value.values.add(), item)
        case dict():
            target.kvlist_value.SetInParent()
            for key, item in value.items():
                _set_value(target.kvlist_value.values.add(key=key).value, item)
        case _:
            target.SetInParent()


def _deliver(service: str, request: Message, view: str, mark: str, at: int, options: dict[str, Any]) -> None:
    """Send a record, and read it back from the view that has it: by its mark, at its time in nanoseconds."""
    endpoint = options["endpoint"] or _own_endpoint(options["data_dir"]) or "127.0.0.1:4317"
    began = time.perf_counter()
    try:
        with _channel(endpoint, options) as channel:
            export: Any = channel.unary_unary(f"/opentelemetry.proto.collector.{service}/Export")
            metadata = _metadata(options["token"])
            answer = export(request.SerializeToString(), timeout=options["timeout"], metadata=metadata)
    except grpc.RpcError as error:
        code = error.code().name
        advice = _ADVICE.get(code, "")
        said = (error.details() or "").rstrip(".")
        raise click.ClickException(f"{endpoint} answers {code}: {said}.{advice}") from error
    acknowledged = time.perf_counter()
    if rejected := _rejected(answer):
        raise click.ClickException(f"{endpoint} rejects the record: {rejected}")
    click.echo(f"acknowledged by {endpoint} after {(acknowledged - began) * 1000:.1f} ms")
    if options["no_confirm"]:
        return
    dsn = _reading_dsn(options)
    if not _found(dsn, look_up(view, mark, at), began + options["timeout"]):
        raise click.ClickException(f"{MARK} {mark} did not appear in {view} within {options['timeout']:g} s")
    click.echo(f"read back from {view} after {(time.perf_counter() - began) * 1000:.1f} ms")
    click.echo(f"its mark, among the attributes: {MARK} = {mark}")


_ADVICE = {
    "DEADLINE_EXCEEDED": " Look whether that is where OTLP/gRPC is taken: OTLP/HTTP has a port of its own.",
    "UNAVAILABLE": " Start a gateway with `obs-hub up`, or name another --endpoint; with https:// when it speaks TLS.",
    "UNAUTHENTICATED": " Give a token by OBSHUB_TOKEN or --token.",
}


def _channel(endpoint: str, options: dict[str, Any]) -> grpc.Channel:
    direct = channel_options(endpoint)
    if not endpoint.startswith("https://"):
        return grpc.insecure_channel(endpoint.removeprefix("http://"), direct)
    ca_file, certificate, key = options["ca_file"], options["client_cert"], options["client_key"]
    if (certificate is None) != (key is None):
        raise click.UsageError("--client-cert and --client-key belong together; give both")
    credentials = grpc.ssl_channel_credentials(*(file and file.read_bytes() for file in (ca_file, key, certificate)))
    return grpc.secure_channel(endpoint.removeprefix("https://"), credentials, direct)


def _metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),) if token else ()


def _rejected(answer: bytes) -> str:
    """Return why a record was rejected. The answers of all three services are alike on the wire."""
    partial = logs_service_pb2.ExportLogsServiceResponse.FromString(answer).partial_success
    return partial.error_message if partial.rejected_log_records else ""


def _own_endpoint(data_dir: Path | None) -> str | None:
    running = running_hub(data_dir)
    endpoints = running.endpoints if running else {}
    return next((address for name, address in endpoints.items() if name.endswith(" grpc")), None)


def _reading_dsn(options: dict[str, Any]) -> str:
    try:
        return reading_dsn(options["dsn"], options["config_path"], options["data_dir"])
    except psycopg.Error as error:
        raise click.ClickException(f"the store cannot be read: {error_text(error)}") from error


def _found(dsn: str, look: sql.Composed, deadline: float) -> bool:
    try:
        with connect_to_read(dsn, autocommit=False) as connection:
            while True:
                with reading(connection, look) as (_, rows):
                    if list(rows):
                        return True
                connection.rollback()
                if time.perf_counter() >= deadline:
                    return False
                time.sleep(0.05)
    except psycopg.Error as error:
        raise click.ClickException(f"the store cannot be read: {error_text(error)}") from error
