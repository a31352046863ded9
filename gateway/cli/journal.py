"""``obs-hub journal``: this machine's logs, without a gateway on it."""

from __future__ import annotations

from pathlib import Path

import click
from pydantic import ValidationError

from gateway import logs
from gateway.cli.options import config_option, data_dir_option, load_config
from gateway.cli.waiting_for_secrets import load_when_possible
from gateway.data_paths import receiver_directory
from gateway.datadir import DataDir, DataDirError


@click.command()
@click.option("--once", is_flag=True, help="Send what is new since the last time, then end: for a systemd timer.")
@click.option(
    "--unit", "units", multiple=True, help='Unit to send, such as nginx or "docker-*". May be given repeatedly.'
)
@click.option("--priority", help="The least severe priority to send, such as warning.")
@click.option(
    "--directory", type=click.Path(), help="Directory of the journal files, instead of this machine's journal."
)
@click.option("--start-at", help="Where to begin the first time: end (from now on) or beginning.")
@click.option("--endpoint", help="Where to send OTLP, such as http://hub:4317. Default: as configured.")
@config_option
@data_dir_option
def journal(
    once: bool,
    units: tuple[str, ...],
    priority: str | None,
    directory: str | None,
    start_at: str | None,
    endpoint: str | None,
    config_path: Path | None,
    data_dir: Path | None,
) -> None:
    """Send the logs in this machine's systemd journal as OTLP.

    Settings are those of the receiver journald in the configuration file; options win. Without an endpoint there, the
    standard OTEL_EXPORTER_OTLP_* variables count, and then http://127.0.0.1:4317. How far it has come is kept in the
    data directory, so that each line is sent once.

    The user needs to be root or in the group systemd-journal.
    """
    from receivers.journald.config import JournaldConfig
    from receivers.journald.run import run_forever, run_once

    config = load_config(config_path) if once else load_when_possible(config_path)
    logs.configure(config.service.telemetry.logs.level, config.service.telemetry.logs.format)
    name, settings = next(
        ((name, each) for name, each in config.receivers.items() if isinstance(each, JournaldConfig)),
        ("journald", JournaldConfig()),
    )
    options = {
        "units": units,
        "priority": priority,
        "directory": directory,
        "start_at": start_at,
        "endpoint": endpoint,
    }
    given = {option: value for option, value in options.items() if value}
    try:
        settings = JournaldConfig.model_validate(settings.model_dump() | given)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str((first["loc"] or ("directory",))[0]).replace("units", "unit").replace("_", "-")
        raise click.BadParameter(first["msg"], param_hint=option) from error
    place = DataDir.resolve(data_dir)
    try:
        place.create()
        state_dir = receiver_directory(place.path, name)
        if not once:
            run_forever(settings, state_dir)
        elif not run_once(settings, state_dir):
            raise click.ClickException(
                "not everything was sent; the log above says why, and the next run goes on there"
            )
    except (DataDirError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
