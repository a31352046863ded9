"""The Timescale exporter: metrics, logs and traces into TimescaleDB or PostgreSQL."""
