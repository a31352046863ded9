"""Metrics of the store by the names that OTLP gave them: which there are, and their values over time as lines."""
