"""A viewer of a dashboard: its queries run as Grafana would send them, as the role that may only read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg

from tests.integration.otel_config import lab
from tests.support import grafana
from tests.support.grafana import TimeRange, Values

Rows = list[tuple[Any, ...]]


class Reader:
    """What one viewer sees. ``own`` tells that the data source is set to TimescaleDB; ``typed`` fills text boxes."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        dashboard: grafana.Json,
        chosen: TimeRange,
        *,
        own: bool = False,
        typed: Mapping[str, str] | None = None,
    ) -> None:
        self._connection = connection
        self._chosen = chosen
        self._timescaledb = own
        self.variables: dict[str, Values] = {}
        boxes = {"trace": lab.TRACE, **(typed or {})}
        for variable in dashboard["templating"]["list"]:
            match variable["type"]:
                case "textbox":
                    values = [boxes.get(variable["name"], "")]
                case "custom":
                    values = variable["query"].split(",")
                case _:
                    values = [str(row[0]) for row in self.run(variable["query"])[1]]
            self.variables[variable["name"]] = Values(values, several=variable.get("multi", False))

    def run(self, text: str, panel: grafana.Json | None = None) -> tuple[list[str], Rows]:
        """Run a query; return its columns and rows."""
        filled = grafana.interpolate(text, self.variables)
        expanded = grafana.expand_sql(filled, self._chosen, panel=panel, timescaledb=self._timescaledb)
        cursor = self._connection.execute(expanded.encode())
        return [column.name for column in cursor.description or ()], cursor.fetchall()

    def see(self, query: grafana.Query) -> tuple[list[str], Rows]:
        """Run a query of a panel. Raises `AssertionError` with the query where it fails."""
        try:
            return self.run(query.text, query.panel)
        except psycopg.Error as error:
            raise AssertionError(f"{query.where}: {error}\n{query.text}") from error
