"""The Loki exporter: logs to Loki's native OTLP endpoint, as they came."""
