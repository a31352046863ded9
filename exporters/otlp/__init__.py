"""The OTLP exporter: batches on to another OTLP endpoint, as they came."""
