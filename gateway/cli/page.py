"""``obs-hub page``: the page that is published."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.options import (
    config_option,
    data_dir_option,
    load_config,
    readable_dsn,
    running_hub,
    token_option,
)
from gateway.config import ConfigError
from gateway.extensions.api.config import ApiConfig
from gateway.net.listeners import from_here
from gateway.publishing.content import SHIPPED, Content, load
from gateway.terminal import safe, safe_text

if TYPE_CHECKING:
    from gateway.extensions.api.status import HubStatus
    from gateway.publishing.readings import Readings


@click.group()
def page() -> None:
    """Make a page that tells the public how the hub is, what it is, and how it came to be.

    The hub's own page, at the address that `obs-hub up` prints, is for those who run it.
    """


def _instant(_context: click.Context, option: click.Parameter, text: str | None) -> datetime | None:
    """Read a moment: ISO 8601, or seconds since 1970, which is what SOURCE_DATE_EPOCH is."""
    if text is None:
        return None
    try:
        if text.isdecimal():
            return datetime.fromtimestamp(int(text), UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(f"{text!r} is no moment such as 2026-11-24T12:00Z", param=option) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _address(_context: click.Context, option: click.Parameter, text: str | None) -> str | None:
    if text and not text.startswith(("http://", "https://")):
        raise click.BadParameter(f"{text!r} is no URL such as https://example.com", param=option)
    return text.rstrip("/") if text else None


@page.command("build")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write the page into."
)
@click.option(
    "--content", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=SHIPPED,
    envvar="OBSHUB_PAGE_CONTENT",
    help="Folder of what the page says and may show, as `obs-hub page new` makes one. Default: the hub's own.",
)  # fmt: skip
@click.option("--title", help="What the page is called. Default: as the content has it.")
@click.option("--site-url", callback=_address, help="Where the page will be. Default: as the content has it.")
@click.option("--repository", callback=_address, help="Where the sources are. Default: as the content has it.")
@click.option(
    "--at", callback=_instant, envvar="SOURCE_DATE_EPOCH", metavar="TIME",
    help="The moment that it tells of. Default: $SOURCE_DATE_EPOCH, or now.",
)  # fmt: skip
@click.option(
    "--publish-outage", is_flag=True,
    help="When the hub does not answer, publish that, and succeed: for a timer. Without it, the command fails.",
)  # fmt: skip
@click.option(
    "--without-hub", is_flag=True,
    help="Only what the content says: no hub is asked and no store read. For where there is none, such as a forge.",
)  # fmt: skip
@click.option("--url", help="Where the API front is. Default: that of the running hub, or configured.")
@token_option
@click.option(
    "--dsn", envvar="OBSHUB_PAGE_DSN", callback=readable_dsn,
    help="PostgreSQL connection string of the store. Default: the one that is configured, or of the running hub.",
)  # fmt: skip
@config_option
@data_dir_option
def build_page(
    output: Path,
    folder: Path,
    title: str | None,
    site_url: str | None,
    repository: str | None,
    at: datetime | None,
    publish_outage: bool,
    without_hub: bool,
    url: str | None,
    token: str | None,
    dsn: str | None,
    config_path: Path | None,
    data_dir: Path | None,
) -> None:
    """Write the page as files for any web server: what it is, how it is and was, without addresses.

    What may be shown of the hub and its store is what the content names, by the names that it gives. When the hub
    does not answer, nothing is written and the command fails, unless --publish-outage says that the public is to know
    it. Run it from a timer with that option, as the unit obs-hub-page.timer does every five minutes. A token with the
    scope read is needed where reading the API needs one.

    \b
    obs-hub page build --output /var/www/status
    obs-hub page build --output site --content my-page --site-url https://status.example.com
    obs-hub page build --output site --without-hub
    """
    from gateway.publishing.hub import StatusUnavailableError
    from gateway.publishing.site import Build, write

    content = _content(folder)
    if without_hub:
        if url or token or dsn or publish_outage:
            raise click.UsageError("--without-hub asks nobody; leave --url, --token, --dsn and --publish-outage away")
        newest = [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (each.date for each in content.entries)]
        build = Build(content, at or (newest[0] if newest else datetime.now(UTC)))
    else:
        where = (url or _front(config_path, data_dir)).rstrip("/")
        try:
            status = _status(where, token, publish_outage)
        except StatusUnavailableError as error:
            raise click.ClickException(
                f"{error}; give --token, made by `obs-hub token create page --scope read`, or another --url: by the "
                "name that is in its certificate, where it has one"
            ) from error
        at = at or datetime.now(UTC)
        runs_since = None if status is None else datetime.now(UTC) - timedelta(seconds=status.uptime_seconds)
        readings = _readings(content, at, runs_since, dsn, config_path, data_dir)
        build = Build(content, at, True, status, readings)
    try:
        write(output, replace(build, title=title, url=site_url, repository=repository))
    except OSError as error:
        raise click.ClickException(f"the page cannot be written: {error}") from error
    said = (
        "" if without_hub else f": {'the hub does not answer' if build.status is None else build.status.status.value}"
    )
    click.echo(f"{output / 'index.html'}{said}")


@page.command("check")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=SHIPPED)
def check_page(folder: Path) -> None:
    """Check what a page is to say: every problem with its file, its line and what was expected.

    Neither a hub nor a store is needed. FOLDER is the hub's own content unless given.
    """
    content = _content(folder)
    counts = (
        (len(content.timeline.entries), "entries"),
        (len(content.status.components), "components"),
        (len(content.charts.charts), "charts"),
    )
    click.echo(f"{folder}: {', '.join(f'{count} {what}' for count, what in counts)}")


@page.command("new")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def new_page(folder: Path) -> None:
    """Copy the hub's own content to FOLDER, to begin a page with. Nothing is copied over files that are there.

    \b
    obs-hub page new my-page
    obs-hub page check my-page
    obs-hub page build --output site --content my-page
    """
    sources = sorted(path for path in SHIPPED.iterdir() if path.is_file())
    present = [path.name for path in sources if (folder / path.name).exists()]
    if present:
        raise click.ClickException(f"{folder} has {', '.join(present)} already; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source in sources:
            with (folder / source.name).open("xb") as file:
                file.write(source.read_bytes())
            click.echo(f"wrote {folder / source.name}")
    except OSError as error:
        raise click.ClickException(f"{error.filename or folder} cannot be written: {error.strerror}") from error


def _content(folder: Path) -> Content:
    try:
        return load(folder)
    except ConfigError as error:
        raise click.ClickException(safe_text(str(error))) from error


def _status(where: str, token: str | None, publish_outage: bool) -> HubStatus | None:
    from gateway.publishing.hub import read_status

    status = read_status(where, token)
    if status is None and not publish_outage:
        raise click.ClickException(
            f"nobody answers at {where}, so there is nothing to say of the hub; start it, give another --url, "
            "--publish-outage to publish that it does not answer, or --without-hub for a page without it"
        )
    return status


def _readings(
    content: Content,
    at: datetime,
    runs_since: datetime | None,
    dsn: str | None,
    config_path: Path | None,
    data_dir: Path | None,
) -> Readings | None:
    """Read the store, if there is one that can be read: a page says that a hub is away, and cannot fail for it."""
    if not content.charts.charts and not any(each.records for each in content.status.components):
        return None
    from gateway.cli.exploring import Places
    from gateway.publishing.readings import read

    try:
        with Places(config_path, data_dir, dsn).store() as store:
            readings = read(store, content, at, runs_since)
    except click.ClickException as error:
        if dsn:
            raise
        click.echo(f"Without charts and history: {error.message}", err=True)
        return None
    for note in readings.notes:
        click.echo(safe(f"Note: {note}"), err=True)
    return readings


def _front(config_path: Path | None, data_dir: Path | None) -> str:
    """Return where the API front is."""
    running = running_hub(data_dir)
    config = load_config(config_path, lenient=True)
    for name in config.service.extensions:
        settings = config.extensions.get(name)  # left out where it lacks something
        if isinstance(settings, ApiConfig):
            address = (running.endpoints if running else {}).get(name, settings.endpoint)
            return f"{'http' if settings.tls is None else 'https'}://{from_here(address)}"
    raise click.ClickException("no extension of type api is configured to ask for the hub's status; give --url")
