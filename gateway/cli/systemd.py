"""``obs-hub systemd``: the hub's units on this machine."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

import gateway
from gateway.systemd.install import (
    Step,
    Target,
    check_reachable,
    check_visible,
    installed,
    installed_paths,
    installed_units,
    installing,
    uninstalling,
)
from gateway.systemd.units import UNITS, Unit, UnitError, unit_of

_PATH = click.Path(path_type=Path)


class _UnitName(click.Choice[str]):
    """The name of a unit; of a template, with the instance behind it."""

    def __init__(self) -> None:
        super().__init__([f"{name}NAME" if unit.is_template else name for name, unit in UNITS.items()])

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return value if unit_of(value) is not None else super().convert(value, param, ctx)


@click.group()
def systemd() -> None:
    """Run the hub by systemd: install, list and uninstall its units."""


def _target_options(function: click.decorators.FC) -> click.decorators.FC:
    for option in (
        click.option("--dry-run", is_flag=True, help="Show every file and command, and do nothing."),
        click.option(
            "--root",
            type=click.Path(file_okay=False, exists=True, path_type=Path),
            default=Path("/"),
            help="Prepare the system below this directory, such as an image, and start nothing.",
        ),
        click.option("--user", "per_user", is_flag=True, help="For your own service manager. Needs no root."),
    ):
        function = option(function)
    return function


@systemd.command("list")
@click.option("--user", "per_user", is_flag=True, help="Those of your own service manager.")
def list_units(per_user: bool) -> None:
    """Show the units there are, what each needs, and which are installed. Those with * are so by default."""
    target = Target(per_user)
    there = installed_units(target)
    for unit in UNITS.values():
        for each in [each for each in there if each.service == unit.service] or [unit]:
            state = "installed" if each in there else "-"
            click.echo(f"{'*' if each.default else ' '} {each.name:<16} {state:<11}{', '.join(each.started)}")
        click.echo(f"{'':30}{unit.what}")
        click.echo(f"{'':30}needs: {unit.needs}")


@systemd.command()
@click.argument("names", metavar="[UNIT]...", nargs=-1, type=_UnitName())
@_target_options
@click.option(
    "--config", type=_PATH, help="Configuration file of the gateway. Default: as installed, else /etc/obs-hub/hub.yaml."
)
@click.option(
    "--data-dir", type=_PATH, help="Where the gateway keeps its data. Default: as installed, else /var/lib/obs-hub."
)
@click.option("--command", type=_PATH, help="The command obs-hub that the units run. Default: this one.")
@click.option("--no-start", is_flag=True, help="Enable the units, and leave starting them to you or the next boot.")
def install(
    names: tuple[str, ...],
    dry_run: bool,
    root: Path,
    per_user: bool,
    config: Path | None,
    data_dir: Path | None,
    command: Path | None,
    no_start: bool,
) -> None:
    """Write units, enable and start them. Without UNIT: gateway, hostmetrics and journal, and what is installed.

    Look at everything first with --dry-run. It can be called again at any time, after an upgrade for example: files
    that are up to date stay, units whose files changed are restarted. Drop-ins and configuration files are never
    touched.
    """
    target = _target(per_user, root)
    units = _chosen(names) or _default(target)
    if per_user and (unfit := [unit.name for unit in units if not unit.per_user]):
        raise click.UsageError(f"{', '.join(unfit)} can only be run by the system; leave out --user")
    same = [UNITS["hostmetrics"], UNITS["hostmetrics-once"]]
    if any(each in units for each in same) and all(each in units or installed(each, target) for each in same):
        raise click.UsageError(
            "hostmetrics and hostmetrics-once send the same metrics; choose one of them, and uninstall the other first"
        )
    present = installed_paths(target)
    config, data_dir = _absolute(config) or present[0], _absolute(data_dir) or present[1]
    program = _absolute(command) or _this_command()
    if target.running and not program.exists():
        raise click.UsageError(f"there is no {program}; say by --command which command obs-hub the units run")
    try:
        steps = installing(units, target, program, config=config, data_dir=data_dir, start=not no_start)
        if dry_run:
            _show(steps)
        if target.running and not per_user:
            check_reachable([program] if command else [program, Path(sys.executable), Path(gateway.__file__)])
            for path in filter(None, (config, data_dir)):
                check_visible(path)
        if dry_run:
            return
        _carry_out(steps, target)
    except (UnitError, OSError) as error:
        raise click.ClickException(str(error)) from error
    _say_what_next(units, target, program, data_dir)


@systemd.command()
@click.argument("names", metavar="[UNIT]...", nargs=-1, type=_UnitName())
@_target_options
def uninstall(names: tuple[str, ...], dry_run: bool, root: Path, per_user: bool) -> None:
    """Stop, disable and remove the units that `install` wrote. Without UNIT: all of them.

    Data, configuration, credentials, drop-ins and system users stay.
    """
    target = _target(per_user, root)
    try:
        steps = uninstalling(_chosen(names) or installed_units(target), target)
        if not steps:
            click.echo(f"nothing to remove: {target.units} has none of these units that `install` wrote")
            return
        if dry_run:
            _show(steps)
            return
        _carry_out(steps, target)
    except (UnitError, OSError) as error:
        raise click.ClickException(str(error)) from error
    data = "your data directory" if per_user else "the data in /var/lib, the system users"
    click.echo(f"\nLeft as they are: {target.etc}, {data}, drop-ins. Remove them if nobody needs them.")


def _chosen(names: Iterable[str]) -> list[Unit]:
    return [unit for unit in dict.fromkeys(map(unit_of, names)) if unit is not None]


def _default(target: Target) -> list[Unit]:
    """Return what is installed by default, and what is installed already: an upgrade is for all of it."""
    there = [unit for unit in installed_units(target) if not unit.is_template]
    once = UNITS["hostmetrics-once"] in there  # instead of hostmetrics
    default = [unit for unit in UNITS.values() if unit.default and not (once and unit.name == "hostmetrics")]
    order = [unit.service for unit in UNITS.values()]
    return sorted({*there, *default}, key=lambda unit: (order.index(unit.service), unit.name))


def _target(per_user: bool, root: Path) -> Target:
    if per_user and root != Path("/"):
        raise click.UsageError("--root prepares a system; it does not go with --user")
    return Target(per_user, Path(os.path.abspath(root)))  # noqa: PTH100 - symbolic links stay as written


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - as above


def _this_command() -> Path:
    """Return the command obs-hub that runs, or that lies beside the Python that does."""
    called = Path(sys.argv[0])
    found = None if called.name == "__main__.py" else shutil.which(called)
    path = Path(found) if found else Path(sys.executable).parent / "obs-hub"
    return Path(os.path.abspath(path))  # noqa: PTH100 - symbolic links stay as they are


def _show(steps: Sequence[Step]) -> None:
    click.echo("Nothing is done. This would be:\n")
    for step in steps:
        for line in step.shown():
            click.echo(line)


def _carry_out(steps: Sequence[Step], target: Target) -> None:
    if not target.per_user:
        os.umask(0o022)  # the hub's users must get at what root makes, whatever root's own umask is
    for step in steps:
        line = next(step.shown())
        try:
            step.do()
        except PermissionError as error:
            advice = "give it to yourself" if target.per_user else "run it with sudo, or for yourself with --user"
            place = Path(error.filename).parent if error.filename else target.units
            raise UnitError(f"{place} cannot be written to: {error.strerror}; {advice}") from error
        except OSError as error:
            raise UnitError(f"{error.filename or target.units}: {error.strerror}") from error
        click.echo(line)


def _say_what_next(units: Sequence[Unit], target: Target, program: Path, data_dir: Path | None) -> None:
    if not target.running:
        return
    user = "--user " if target.per_user else ""
    click.echo(f"\nThe configuration is in {target.etc}. To see how it goes:\n")
    click.echo(f"  systemctl {user}status {' '.join(unit.started[-1] for unit in units)}")
    click.echo(f"  journalctl {user}-u {units[0].started[0].removesuffix('.service')} -f")
    if not target.per_user and any(unit.name == "gateway" for unit in units):
        click.echo("\nOther commands find the hub as its user:\n")
        click.echo(f"  sudo -u obs-hub {program} logs --data-dir {data_dir or '/var/lib/obs-hub'}")
    if target.per_user:
        click.echo("\nUnits of a user end with their last session, unless: loginctl enable-linger")
