"""What instruments have measured, as a reader of the SDK keeps it in memory."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics.export import InMemoryMetricReader


def metrics_of(reader: InMemoryMetricReader, name: str) -> list[Any]:
    """Return the metrics of that name, one of each scope that has it."""
    data: Any = reader.get_metrics_data()
    return [
        metric
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
    ]
