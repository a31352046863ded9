"""Traces of the store: lists of them, the spans of one, and as OTLP what was sent as OTLP."""
