"""Severities on the command line, by whatever name people know them."""

from __future__ import annotations

from typing import Any

import click

from gateway.query.logs.records import SEVERITIES, severity_named


class _Severity(click.Choice):  # type: ignore[type-arg]  # generic only in newer click
    """One of OpenTelemetry's six; ``warning`` is taken for ``warn``, ``critical`` for ``fatal``, in any case."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(severity_named(str(value)) or value, param, ctx)


SEVERITY = _Severity(SEVERITIES)
