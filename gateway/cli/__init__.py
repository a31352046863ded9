"""The command line, ``obs-hub``. Each command is one module, loaded only when it is called."""

from __future__ import annotations

import importlib
import os
from typing import Any

import click

from gateway.base.collector import collect_seldom
from gateway.terminal import guard_terminals

# What gRPC's core would print (such as an address in use) is said by the gateway itself. Read when grpc is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

# gRPC's own handling of fork() can end a child before it becomes the program it was made for, such as an embedded
# PostgreSQL that is started again. Nothing here goes on in a forked child.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


_COMMANDS = {
    "up": "Run the whole hub on this machine; it needs nothing else.",
    "serve": "Run the gateway as a service, as its configuration file says.",
    "send": "Send one synthetic record and confirm that it is stored.",
    "logs": "Show log records and events, oldest first, in local time.",
    "traces": "List the recent traces, or show one as a waterfall.",
    "metrics": "List the metrics that the store has, or chart one.",
    "query": "Run one SQL statement on the store and print what it returns.",
    "plan": "Reckon what to run for a load, and what gives out first.",
    "doctor": "Look at everything the hub needs and say what to do.",
    "config": "Begin, check and explain a configuration file.",
    "assets": "Dashboards, and configuration for Grafana, Alloy, Collector.",
    "token": "Make, list and revoke the tokens that clients present.",
    "db": "Look after the store.",
    "store": "Another name of `db`, as in `obs-hub store copy`.",
    "spool": "Look after the batches that wait on disk for a destination.",
    "dead-letter": "Look after the batches that a destination refused for good.",
    "hostmetrics": "Collect the metrics of this machine and send them as OTLP.",
    "journal": "Send the logs in this machine's systemd journal as OTLP.",
    "pipeline": "Send what applications wrote into MongoDB as events.",
    "gitops": "Look after the clones that follow their remotes.",
    "gate": "Open Tailscale Funnel for the webhook while the hub is ready.",
    "page": "Make a page that tells the public how the hub is.",
    "systemd": "Run the hub by systemd: install, list and uninstall its units.",
}
"""What there is, with the line that says what it does in the list of all."""

_MODULES = {"up": "run", "serve": "run", "store": "db"}
"""The modules of the commands that have none of their own name."""

_SILENT = frozenset({"token"})
"""Commands that log nothing, and so do without what logs: loading it is most of what they would cost."""


class _LazyGroup(click.Group):
    """Imports a command when it is needed: none loads what only the others use."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        guard_terminals()
        collect_seldom()
        return super().main(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(importlib.import_module(f"gateway.cli.{_MODULES.get(name, name)}"), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            from gateway.suggestions import near

            meant = "".join(f" Did you mean {name!r}?" for name in near(args[0], _COMMANDS))
            raise click.UsageError(f"No such command {args[0]!r}.{meant}", ctx)
        if args[0] in _COMMANDS and args[0] not in _SILENT:
            from gateway import logs

            logs.configure("warning", "console")  # until a command knows what is configured; many never ask
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ValueError as error:
            # Any command may send somewhere, and find only then that the environment names what cannot be used.
            from gateway.net.destination import DestinationError

            if isinstance(error, DestinationError):
                raise click.ClickException(str(error)) from error
            raise


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from gateway import __version__  # which is looked up then

        click.echo(f"obs-hub, version {__version__}")
        ctx.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def main() -> None:
    """The Observability Hub: OpenTelemetry in, TimescaleDB or PostgreSQL out.

    Start with `obs-hub up`: it needs nothing else, and shows what to try next.
    """
