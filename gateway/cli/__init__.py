"""The command line, ``obs-hub``. Each command is one module, loaded only when it is called."""

from __future__ import annotations

import importlib
import os
from typing import Any

import click

from gateway import __version__
from gateway.terminal import guard_terminals

# What gRPC's core would print (such as an address in use) is said by the gateway itself. Read when grpc is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

# gRPC's own handling of fork() can end a child before it becomes the program it was made for, such as an embedded
# PostgreSQL that is started again. Nothing here goes on in a forked child.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

_COMMANDS = {
    "up": "gateway.cli.run:up",
    "serve": "gateway.cli.run:serve",
    "send": "gateway.cli.send:send",
    "logs": "gateway.cli.logs:logs",
    "traces": "gateway.cli.traces:traces",
    "metrics": "gateway.cli.metrics:metrics",
    "query": "gateway.cli.query:query",
    "doctor": "gateway.cli.doctor:doctor",
    "config": "gateway.cli.config:config",
    "token": "gateway.cli.token:token",
    "db": "gateway.cli.db:db",
    "spool": "gateway.cli.spool:spool",
    "dead-letter": "gateway.cli.dead_letter:dead_letter",
    "hostmetrics": "gateway.cli.hostmetrics:hostmetrics",
    "journal": "gateway.cli.journal:journal",
    "pipeline": "gateway.cli.pipeline:pipeline",
    "gitops": "gateway.cli.gitops:gitops",
    "gate": "gateway.cli.gate:gate",
    "page": "gateway.cli.page:page",
    "systemd": "gateway.cli.systemd:systemd",
}


class _LazyGroup(click.Group):
    """Imports a command when it is needed: none loads what only the others use."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        guard_terminals()
        return super().main(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = _COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            from gateway.suggestions import near

            meant = "".join(f" Did you mean {name!r}?" for name in near(args[0], _COMMANDS))
            raise click.UsageError(f"No such command {args[0]!r}.{meant}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ValueError as error:
            # Any command may send somewhere, and find only then that the environment names what cannot be used.
            from gateway.pipeline.destination import DestinationError

            if isinstance(error, DestinationError):
                raise click.ClickException(str(error)) from error
            raise


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="obs-hub")
def main() -> None:
    """The Observability Hub: OpenTelemetry in, TimescaleDB or PostgreSQL out.

    Start with `obs-hub up`: it needs nothing else, and shows what to try next.
    """
