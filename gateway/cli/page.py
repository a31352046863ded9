"""``obs-hub page``: the page for the public."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import config_option, data_dir_option, load_config, running_hub, token_option
from gateway.extensions.api.config import ApiConfig
from gateway.extensions.api.public_page import StatusUnavailableError, build, read_status
from gateway.net.listeners import from_here


@click.group()
def page() -> None:
    """Make a page that tells the public how the hub is.

    The hub's own page, at the address that `obs-hub up` prints, is for those who run it.
    """


@page.command("build")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write the page into."
)
@click.option("--title", default="Observability Hub", show_default=True, help="What the page is called.")
@click.option(
    "--publish-outage", is_flag=True,
    help="When the hub does not answer, publish that, and succeed: for a timer. Without it, the command fails.",
)  # fmt: skip
@click.option("--url", help="Where the API front is. Default: that of the running hub, or configured.")
@token_option
@config_option
@data_dir_option
def build_page(
    output: Path,
    title: str,
    publish_outage: bool,
    url: str | None,
    token: str | None,
    config_path: Path | None,
    data_dir: Path | None,
) -> None:
    """Write the page as files for any web server: how the hub is now, without addresses.

    When the hub does not answer, nothing is written and the command fails, unless --publish-outage says that the public
    is to know it. Run it from a timer with that option, as the unit obs-hub-page.timer does every five minutes. A token
    with the scope read is needed where reading the API needs one.
    """
    where = (url or _front(config_path, data_dir)).rstrip("/")
    try:
        status = read_status(where, token)
        if status is None and not publish_outage:
            raise click.ClickException(
                f"nobody answers at {where}, so there is nothing to say of the hub; start it, give another --url, or "
                "--publish-outage to publish that it does not answer"
            )
        build(output, status, title)
    except StatusUnavailableError as error:
        raise click.ClickException(
            f"{error}; give --token, made by `obs-hub token create page --scope read`, or another --url: by the name "
            "that is in its certificate, where it has one"
        ) from error
    except OSError as error:
        raise click.ClickException(f"the page cannot be written: {error}") from error
    click.echo(f"{output / 'index.html'}: {'the hub does not answer' if status is None else status.status.value}")


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
