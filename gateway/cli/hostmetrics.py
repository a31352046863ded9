"""``obs-hub hostmetrics``: this machine's metrics, without a gateway on it."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click
from pydantic import ValidationError

from gateway import logs
from gateway.cli.options import config_option, load_config
from gateway.cli.waiting_for_secrets import load_when_possible


@click.command()
@click.option("--once", is_flag=True, help="Collect and send once, then end: for a systemd timer.")
@click.option("--endpoint", help="Where to send OTLP, such as http://hub:4317. Default: as configured.")
@config_option
def hostmetrics(once: bool, endpoint: str | None, config_path: Path | None) -> None:
    """Collect the metrics of this machine and send them as OTLP.

    Settings are those of the receiver hostmetrics in the configuration file. Without an endpoint there, the standard
    OTEL_EXPORTER_OTLP_* variables count, and then http://127.0.0.1:4317.
    """
    from receivers.hostmetrics.config import HostMetricsConfig
    from receivers.hostmetrics.run import run_forever, run_once

    config = load_config(config_path) if once else load_when_possible(config_path)
    logs.configure(config.service.telemetry.logs.level, config.service.telemetry.logs.format)
    settings = next(
        (each for each in config.receivers.values() if isinstance(each, HostMetricsConfig)), HostMetricsConfig()
    )
    if endpoint:
        try:
            settings = HostMetricsConfig.model_validate(settings.model_dump() | {"endpoint": endpoint})
        except ValidationError as error:
            raise click.BadParameter(error.errors()[0]["msg"], param_hint="--endpoint") from error
    if once:
        if not run_once(settings):
            raise click.ClickException("the metrics were not accepted; the log above says why")
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    run_forever(settings, stop)
